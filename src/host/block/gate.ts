import { ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";
import type { Store } from "../../core/store.ts";

/** An image asks for another file: the parent that it is based on, or the file that holds its data. */
export interface OpenRequest {
  kind: "parent" | "data";
  /** The name of the store that asks; relative names start from its folder. */
  image: string;
  /** Where the file may be, best guess first, as written in the image. */
  names: readonly string[];
  /** The names are Windows', with drive letters and backslashes. */
  windows: boolean;
  readOnly: boolean;
  /** The names are guesses: it is the file, near the image, whose first 512 bytes this knows. */
  recognise?(head: Uint8Array): boolean;
}

export interface OpenedFile {
  /** Closed with the disk. */
  store: Store;
  /** Its format, by our name, where the name or the gate says it; else the image that asks does, or its content. */
  format?: string | undefined;
  /** A parent is opened for reading, unless this is set: for a commit. */
  writable?: boolean;
}

/**
 * Decides which files an image may pull in. Images come from strangers: what they name is opened through a gate, or not at
 * all.
 */
export interface OpenGate {
  /** @throws ParavaneError DENIED, NOT_FOUND, and what opening throws */
  open(request: OpenRequest): Later<OpenedFile>;
}

/** Opens nothing: whoever opens the image gives what it needs. */
export const denyAll: OpenGate = {
  open({ kind, image, names, windows }) {
    const [what, option] = kind === "parent" ? ["its parent", "`backing`"] : ["its data file", "`openFile`"];
    throw new ParavaneError(
      "NOT_FOUND",
      `the image needs ${what}, ${names[0] ?? "(unnamed)"}, which was not given`,
      { file: image, structure: kind === "parent" ? "parent locator" : "data file name", paths: names, windows },
      { hint: `Open it first and give it as ${option}, or give a \`gate\` that may open it` },
    );
  },
};
