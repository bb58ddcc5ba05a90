import { realpathSync, statSync } from "node:fs";
import { dirname, isAbsolute, relative, resolve } from "node:path";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Disk, openDisk } from "../../../host/block/open.ts";
import { FileStore } from "../../../host/store/file.ts";
import { ourFormat } from "./names.ts";

export interface OpenImageOptions {
  /** As on the command line; found out from the content when absent. */
  format?: string;
  write?: boolean;
  /** Leaves the parent out: for a look at the image alone. */
  alone?: boolean;
  /** A qcow2 image's internal snapshot. */
  snapshot?: string;
  onWarning?: (message: string) => void;
}

/** Deeper chains are taken for loops. */
const MAX_DEPTH = 200;

/**
 * Opens an image file and those that it is based on. Only files in the image's own folder are opened for it, and none by
 * URL. @throws ParavaneError NOT_FOUND, DENIED, CORRUPT, UNSUPPORTED, READ_ONLY, INVALID, IO
 */
export function openImage(path: string, options: OpenImageOptions = {}): Promise<Disk> {
  return open(path, options, []);
}

async function open(path: string, options: OpenImageOptions, children: string[]): Promise<Disk> {
  const { format, write = false, alone, snapshot, onWarning } = options;
  const real = realOf(path);
  if (children.includes(real) || children.length >= MAX_DEPTH) {
    throw new ParavaneError("CORRUPT", "the chain of parents does not end", { file: path, structure: "backing chain" });
  }
  const store = new FileStore(path, { readOnly: !write, async: !!process.env.ASY });
  let backing: Block | undefined;
  const attempt = () =>
    openDisk(store, {
      format: ourFormat(format),
      readOnly: !write,
      backing,
      openFile: (name, readOnly) => new FileStore(inFolder(real, name), { readOnly }),
      ...(onWarning && { onWarning }),
      ...(snapshot !== undefined && { snapshot }),
    });
  try {
    try {
      return await attempt();
    } catch (thrown) {
      const parent = parentIn(thrown);
      if (!parent) throw thrown;
      backing = alone
        ? NOTHING
        : await open(inFolder(real, ...parent.paths), { format: parent.format, onWarning }, [...children, real]);
      if (!alone && parent.format === undefined && (backing as Disk).format === "raw") {
        await backing.close();
        throw new ParavaneError(
          "DENIED",
          "the parent has no header that is known, and the image does not say that it is raw",
          {
            file: path,
            structure: "backing format",
          },
          { hint: "Say so with: paravane img rebase -u -F raw -b PARENT IMAGE" },
        );
      }
      return await attempt();
    }
  } catch (thrown) {
    store.close();
    throw thrown;
  }
}

/** The parent that an image was refused for the want of. */
function parentIn(thrown: unknown): { paths: string[]; format?: string } | undefined {
  if (!(thrown instanceof ParavaneError) || thrown.code !== "NOT_FOUND") return undefined;
  const { structure, paths, format } = thrown.context;
  if (structure !== "parent locator" || !Array.isArray(paths)) return undefined;
  return { paths, format: format as string | undefined };
}

/** The first of the names that is there, inside the folder that `image` is in. @throws DENIED, NOT_FOUND */
function inFolder(image: string, ...names: string[]): string {
  const folder = dirname(image);
  let refusal: ParavaneError | undefined;
  for (const name of names) {
    if (/^[a-z][a-z0-9+.-]+:/i.test(name)) {
      refusal ??= denied(image, name, "is no file");
      continue;
    }
    const path = resolve(folder, name);
    const within = relative(folder, realOf(path));
    if (within.startsWith("..") || isAbsolute(within)) refusal ??= denied(image, name, "is outside the image's folder");
    else if (statSync(path, { throwIfNoEntry: false })) return path;
  }
  throw (
    refusal ?? new ParavaneError("NOT_FOUND", `the parent ${names[0] ?? "(unnamed)"} is not there`, { file: image })
  );
}

function denied(image: string, name: string, what: string): ParavaneError {
  const hint = "Move it beside the image, and point the image at it with: paravane img rebase -u";
  return new ParavaneError("DENIED", `${name}, which the image is based on, ${what}`, { file: image }, { hint });
}

function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return resolve(path);
  }
}

/** Stands in for a parent that is not to be read. */
const NOTHING: Block = {
  size: 0,
  sectorSize: 512,
  readOnly: true,
  copied: 0,
  submit() {},
  close() {},
};

/** Are both the same file? */
export function sameFile(one: string, other: string): boolean {
  return realOf(one) === realOf(other);
}
