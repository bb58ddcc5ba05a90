import { readFileSync, statSync } from "node:fs";
import { asParavaneError, ParavaneError } from "../core/error.ts";
import type { OpenGate } from "../host/block/gate.ts";
import { openCue } from "../host/media/cue/open.ts";
import type { Disc } from "../host/media/disc.ts";
import { sameFolder } from "./gate.ts";

/** A sheet of 99 tracks has a few thousand characters. */
const MAX_SHEET = 1 << 20;

export interface CueFileOptions {
  /** Which files the sheet may name; those in its own folder, or below, when absent. */
  gate?: OpenGate;
}

/**
 * Opens a CUE sheet with the files that it names; `close()` closes them.
 * @throws ParavaneError NOT_FOUND, DENIED (by the gate), CORRUPT or UNSUPPORTED (with the sheet's line), IO
 */
export async function openCueFile(path: string, options: CueFileOptions = {}): Promise<Disc> {
  const gate = options.gate ?? sameFolder(path);
  return openCue(readSheet(path), {
    async openFile(name) {
      // Most sheets come from Windows, where names do not tell upper case from lower.
      const request = { kind: "data", image: path, names: [name], windows: true, readOnly: true } as const;
      return (await gate.open(request)).store;
    },
  });
}

function readSheet(path: string): Uint8Array {
  try {
    const { size } = statSync(path);
    if (size <= MAX_SHEET) return readFileSync(path);
    throw new ParavaneError("CORRUPT", `${size} bytes are too many for a CUE sheet`, { file: path });
  } catch (thrown) {
    const missing = (thrown as NodeJS.ErrnoException).code === "ENOENT";
    throw asParavaneError(thrown, missing ? "NOT_FOUND" : "IO", { file: path });
  }
}
