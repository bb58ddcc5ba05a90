import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import { ovfDisks } from "./ovf.ts";
import { type Member, readMembers } from "./tar.ts";
import { WindowStore } from "./window.ts";

const MAX_OVF = 2 ** 20;

/** The files of an archive, and those of them that are disks. */
export interface Archive {
  /** Names, in the descriptor's order. */
  disks: readonly string[];
  /** @throws ParavaneError NOT_FOUND, CORRUPT */
  open(name: string): WindowStore;
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, and what the store throws */
export function* readArchive(store: Store, onWarning?: OpenOptions["onWarning"]): Flow<Archive> {
  const members = yield* readMembers(store);
  /** Readers do not agree on which of two files with one name it is. */
  const member = (name: string): Member | undefined => {
    const [first, second] = members.filter((each) => each.name === name);
    if (second) throw corrupt(store, "tar header", second.header, `is of ${name}, which the archive has already`);
    return first;
  };
  const open = (name: string) => {
    const found = member(name);
    if (!found) throw new ParavaneError("NOT_FOUND", `${name} is not in the archive`, { file: store.name });
    if (found.sparse) throw unsupported(store, "tar header", `${name} is stored with holes, as GNU tar does`, UNPACK);
    return new WindowStore(store, `${store.name}, ${name}`, found.start, found.size);
  };
  const descriptor = members.find(({ name }) => /\.ovf$/i.test(name));
  const named = descriptor && (yield* disksOf(store, descriptor, onWarning));
  if (!named) {
    const disks = members.map(({ name }) => name).filter((name) => /\.vmdk$/i.test(name));
    return { disks: [...new Set(disks)], open };
  }
  for (const { file, compression, pieces } of named) {
    if (pieces || compression !== undefined) {
      const how = pieces ? "in pieces" : `packed with ${compression}`;
      throw unsupported(
        store,
        "OVF descriptor",
        `the disk ${file} is ${how}`,
        "Unpack the archive, and the disk, with tar",
      );
    }
    if (member(file)) continue;
    throw corrupt(store, "OVF descriptor", descriptor.start, `names ${file}, which is not in the archive`);
  }
  return { disks: named.map(({ file }) => file), open };
}

const UNPACK = "Unpack the archive with tar, and open the disk itself";

/** Nothing when the descriptor cannot be understood. */
function* disksOf(store: Store, { start, size, name }: Member, onWarning?: OpenOptions["onWarning"]) {
  try {
    if (size > MAX_OVF) throw new RangeError(`it has ${size} bytes, more than ${MAX_OVF}`);
    return ovfDisks(new TextDecoder("utf-8", { fatal: true }).decode(yield* read(store, start, size)));
  } catch (thrown) {
    if (!(thrown instanceof RangeError) && !(thrown instanceof TypeError)) throw thrown;
    onWarning?.(`${store.name}: ${name} is not understood: ${thrown.message}; disks are known by their names`);
    return undefined;
  }
}

/** The only disk, or the one that was asked for. @throws ParavaneError INVALID, NOT_FOUND, CORRUPT */
export function chosen(store: Store, { disks }: Archive, wanted?: string): string {
  const context = { file: store.name };
  if (disks.length === 0) throw corrupt(store, "archive", 0, "holds no disk");
  if (wanted !== undefined) {
    if (disks.includes(wanted)) return wanted;
    const hint = `It has: ${disks.join(", ")}`;
    throw new ParavaneError("NOT_FOUND", `the archive has no disk ${wanted}`, context, { hint });
  }
  if (disks.length === 1) return disks[0];
  const json = JSON.stringify({ driver: "ova", member: disks[0], "file.filename": store.name });
  throw new ParavaneError("INVALID", `the archive has ${disks.length} disks: ${disks.join(", ")}`, context, {
    hint:
      `Say which: --image-opts driver=ova,member=${disks[0]},file.filename=${store.name}; ` +
      `or, in place of the file's name, 'json:${json}'; in the library, the option \`member\``,
  });
}
