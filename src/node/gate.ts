import { readdirSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from "node:path";
import { ParavaneError } from "../core/error.ts";
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

  open({ kind, image, names, windows, readOnly }: OpenRequest): OpenedFile {
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
      return parsed.format === undefined ? { store } : { store, format: parsed.format };
    }
    if (refusal) throw refusal;
    throw new ParavaneError(
      "NOT_FOUND",
      `${what}, ${names.join(" or ") || "(unnamed)"}, is not there`,
      { file: image, structure: kind === "parent" ? "parent locator" : "data file name", paths: names },
      { hint: "Copy it beside the image, or name another: paravane img rebase -u" },
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
