import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../../core/flow.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import type { Disc } from "../disc.ts";
import { type ByteSource, fillZeros, storeSource } from "../source.ts";
import { type CueData, layOut, textOf } from "./layout.ts";
import { parseCue } from "./parse.ts";
import type { CueSheet } from "./sheet.ts";
import { findSamples } from "./wave.ts";

export interface CueOptions {
  /** Opens a file that the sheet names, for reading; the disc closes it. Which names it allows is its own affair. */
  openFile: (name: string) => Later<Store>;
}

/**
 * Opens a CUE sheet with its files: BINARY, MOTOROLA and WAVE, any number of tracks, gaps and sessions.
 * @throws ParavaneError CORRUPT or UNSUPPORTED, with the sheet's line; and what `openFile` throws
 */
export function openCue(sheet: string | Uint8Array, options: CueOptions): Later<Disc> {
  return run(open(parseCue(typeof sheet === "string" ? sheet : decode(sheet)), options));
}

/** UTF-8, and for what is not, the byte's own character. */
function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("latin1").decode(bytes);
  }
}

function* open(sheet: CueSheet, { openFile }: CueOptions): Flow<Disc> {
  const stores: Store[] = [];
  const close = (): Later<void> => {
    const ending = stores.splice(0).map((store) => store.close());
    if (ending.some((each) => each instanceof Promise)) return Promise.all(ending).then(() => undefined);
  };
  try {
    const data: CueData[] = [];
    for (const file of sheet.files) {
      const store = yield* wait(openNamed(openFile, file.name, file.line));
      stores.push(store);
      data.push(yield* dataOf(store, file.type === "WAVE"));
    }
    const { tracks, sessions, runs, sectors } = layOut(sheet, data);
    const mcn = sheet.mcn === undefined ? {} : { mcn: sheet.mcn };
    return { kind: "cd", sectors, tracks, sessions, runs, ...mcn, ...textOf(sheet), close };
  } catch (thrown) {
    yield* wait(close());
    throw thrown;
  }
}

function openNamed(openFile: CueOptions["openFile"], name: string, line: number): Later<Store> {
  const fail = (thrown: unknown): never => {
    const cause = asParavaneError(thrown);
    const context = { ...cause.context, line };
    const options = { cause, ...(cause.hint === undefined ? {} : { hint: cause.hint }) };
    throw new ParavaneError(cause.code, `CUE sheet, line ${line}: ${name}: ${cause.message}`, context, options);
  };
  try {
    const store = openFile(name);
    return store instanceof Promise ? store.catch(fail) : store;
  } catch (thrown) {
    return fail(thrown);
  }
}

function* dataOf(store: Store, wave: boolean): Flow<CueData> {
  const source = storeSource(store);
  if (!wave) return { source, position: 0, length: store.size };
  const samples = yield* findSamples(store);
  return { source: ended(source, samples.position + samples.length), ...samples };
}

/** Zeros from `end` on: what follows the samples of a WAVE file are more chunks. */
function ended(source: ByteSource, end: number): ByteSource {
  return {
    size: end,
    *read(position: number, memory: Uint8Array, segments: SegmentList): Flow {
      yield* source.read(position, memory, segments);
      fillZeros(memory, segments, Math.max(0, end - position));
    },
  };
}
