import { readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { ParavaneError } from "../core/error.ts";
import { SegmentList } from "../core/segments.ts";
import { parseFileName } from "../host/block/file-name.ts";
import type { OpenedFile, OpenGate, OpenRequest } from "../host/block/gate.ts";
import { FileStore } from "../host/store/file.ts";

const WINDOWS = process.platform === "win32";

/**
 * Opens what lies in one of the folders, or below, once symbolic links are resolved. Names that are not absolute start from
 * the folder of the image that has them. Nothing is opened by URL.
 */
export function allowFolders(folders: readonly string[]): OpenGate {
  return new FileGate(folders.map(realOf));
}

/** Opens what lies in the image's own folder, or below: `allowFolders` of that. */
export function sameFolder(image: string): OpenGate {
  return allowFolders([dirname(image)]);
}

/** Opens any file of this host that an image names. For images whose makers are trusted with all of them. */
export const anyFile: OpenGate = {
  open: (request) => new FileGate(undefined).open(request),
};

class FileGate implements OpenGate {
  readonly #roots: readonly string[] | undefined;

  constructor(roots: readonly string[] | undefined) {
    this.#roots = roots;
  }

  open({ kind, image, names, windows, readOnly, recognise }: OpenRequest): OpenedFile {
    const what = kind === "parent" ? "the parent" : "the data file";
    let refusal: ParavaneError | undefined;
    const deny = (name: string, why: string, hint: string) => {
      const message = `${what}, ${name}, ${why}`;
      refusal ??= new ParavaneError("DENIED", message, { file: image, structure: "open gate", names }, { hint });
    };
    for (const name of names) {
      const parsed = parseFileName(name, windows, WINDOWS);
      if ("refusal" in parsed) {
        deny(name, parsed.refusal, "Copy it beside the image, and name it anew: paravane img rebase -u");
        continue;
      }
      const wanted = isAbsolute(parsed.path) ? parsed.path : join(dirname(image), parsed.path);
      const real = realOf(wanted);
      if (!this.#allows(real)) {
        const folders = this.#roots!.join(", ");
        deny(
          name,
          `is outside ${folders}`,
          `Move it there, or allow its folder: --allow ${dirname(real)} (allowFolders in the library)`,
        );
        continue;
      }
      const path = statSync(wanted, { throwIfNoEntry: false }) ? wanted : windows ? anyCase(wanted) : undefined;
      if (path === undefined || !this.#allows(realOf(path))) continue;
      const store = openRegular(path, readOnly);
      if (recognise && !recognise(headOf(store))) {
        store.close();
        continue;
      }
      return parsed.format === undefined ? { store } : { store, format: parsed.format };
    }
    if (refusal) throw refusal;
    const beside = recognise && this.#find(image, recognise);
    if (beside) return { store: openRegular(beside, readOnly) };
    throw new ParavaneError(
      "NOT_FOUND",
      `${what}, ${names.join(" or ") || "(unnamed)"}, is not there`,
      { file: image, structure: kind === "parent" ? "parent locator" : "data file name", paths: names },
      {
        hint:
          kind === "data"
            ? "Copy it beside the image"
            : recognise
              ? "The image knows it by content alone: copy it beside the image, or allow its folder with --allow"
              : "Copy it beside the image, or name another: paravane img rebase -u",
      },
    );
  }

  /** The one file near the image that is it. @throws INVALID when there are two */
  #find(image: string, recognise: (head: Uint8Array) => boolean): string | undefined {
    const own = dirname(resolve(image));
    // VirtualBox keeps the differencing images of a machine in a folder of that name beside its first ones.
    const folders = [own, join(own, "Snapshots"), dirname(own), ...(this.#roots ?? [])];
    const found = new Map<string, string>();
    for (const folder of new Set(folders.map(realOf))) {
      if (!this.#allows(folder)) continue;
      for (const name of filesIn(folder)) {
        const path = join(folder, name);
        if (!this.#allows(realOf(path)) || !holds(path, recognise)) continue;
        found.set(realOf(path), path);
      }
    }
    if (found.size <= 1) return [...found.values()][0];
    throw new ParavaneError(
      "INVALID",
      `several files say that they are the parent: ${[...found.values()].join(", ")}`,
      { file: image, structure: "parent locator", paths: [...found.values()] },
      { hint: "Move all but the right one elsewhere" },
    );
  }

  #allows(real: string): boolean {
    return this.#roots?.every((root) => !inside(root, real)) !== true;
  }
}

function inside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

/** Not a pipe, which opening would wait on; and the file that was looked at, not one put in its place since. */
function openRegular(path: string, readOnly: boolean): FileStore {
  const stat = statSync(path);
  if (!stat.isFile() && !stat.isBlockDevice()) {
    throw new ParavaneError("INVALID", `${path} is no regular file`, { file: path });
  }
  const store = new FileStore(path, { readOnly });
  const { dev, ino } = statSync(realOf(path));
  if (store.identity === `${dev}:${ino}` && stat.ino === ino) return store;
  store.close();
  throw new ParavaneError("BUSY", `${path} was replaced while it was opened`, { file: path });
}

/** Files looked at in one folder, at most. */
const MAX_FILES = 10_000;

function filesIn(folder: string): string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() || entry.isSymbolicLink())
      .slice(0, MAX_FILES)
      .map(({ name }) => name);
  } catch {
    return [];
  }
}

function holds(path: string, recognise: (head: Uint8Array) => boolean): boolean {
  if (!statSync(path, { throwIfNoEntry: false })?.isFile()) return false;
  try {
    const store = openRegular(path, true);
    try {
      return recognise(headOf(store));
    } finally {
      store.close();
    }
  } catch {
    // One that cannot be read is not it.
    return false;
  }
}

function headOf(store: FileStore): Uint8Array {
  const head = new Uint8Array(Math.min(512, store.size));
  store.readv(0, head, SegmentList.of(0, head.length));
  return head;
}

/** The one file of that name in other letters' cases, as Windows would find it. */
function anyCase(path: string): string | undefined {
  try {
    const wanted = basename(path).toLowerCase();
    const found = readdirSync(dirname(path)).filter((name) => name.toLowerCase() === wanted);
    return found.length === 1 ? join(dirname(path), found[0]) : undefined;
  } catch {
    return undefined;
  }
}

/** With links resolved, as far as there is something. */
export function realOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    const up = dirname(resolve(path));
    return up === resolve(path) ? up : join(realOf(up), basename(path));
  }
}

/** As `gate`, but opens one parent for writing: the nearest, or the one that is the file `base`. For a commit. */
export function writableParent(gate: OpenGate, base?: string): OpenGate {
  const identity = base === undefined ? undefined : identityOf(base);
  let nearest = true;
  return {
    async open(request) {
      const opened = await gate.open(request);
      if (request.kind !== "parent") return opened;
      const chosen = base === undefined ? nearest : opened.store.identity === identity;
      nearest = false;
      if (!chosen) return opened;
      await opened.store.close();
      return { ...opened, store: openRegular(opened.store.name, false), writable: true };
    },
  };
}

function identityOf(path: string): string | undefined {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat && `${stat.dev}:${stat.ino}`;
}
