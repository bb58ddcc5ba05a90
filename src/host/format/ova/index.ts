import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { CheckReport, Format, OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import { emptyReport } from "../lookup/tree-check.ts";
import { vmdk } from "../vmdk/index.ts";
import { OvaImage } from "./image.ts";
import { ovfDisks } from "./ovf.ts";
import { isTar, type Member, nameIn, readMembers } from "./tar.ts";
import { WindowStore } from "./window.ts";

const MAX_OVF = 2 ** 20;

interface Archive {
  /** Of disks. */
  disks: Member[];
  open(name: string): WindowStore;
}

/** A virtual machine in one file: a tar archive with a descriptor and its disks, which are VMDKs. Of these one is opened. */
export const ova: Format = {
  name: "ova",
  extensions: ["ova"],
  // The descriptor comes first, perhaps after records that tell of it; a raw disk that holds another archive is none.
  probe: (head) => (isTar(head) && (/\.(ovf|vmdk)$/i.test(nameIn(head)) || "xgL".includes(typeOf(head))) ? 90 : 0),

  *open(store, options) {
    const archive = yield* readArchive(store, options.onWarning);
    const { name } = chosen(store, archive, options.member);
    const window = archive.open(name);
    const { member: _, ...rest } = options;
    const image = yield* vmdk.open(window, { ...rest, readOnly: true, openFile: archive.open });
    return new OvaImage(image, window, store.name, name);
  },

  *check(store) {
    const archive = yield* readArchive(store);
    if (archive.disks.length === 0) chosen(store, archive);
    const report = emptyReport(0);
    for (const { name } of archive.disks) {
      add(report, yield* vmdk.check!(archive.open(name), { openFile: archive.open }), name);
    }
    return report;
  },
};

const typeOf = (head: Uint8Array): string => String.fromCharCode(head[156]);

function* readArchive(store: Store, onWarning?: OpenOptions["onWarning"]): Flow<Archive> {
  const members = yield* readMembers(store);
  const member = (name: string) => members.find((each) => each.name === name);
  const descriptor = members.find(({ name }) => /\.ovf$/i.test(name));
  const open = (name: string) => {
    const found = member(name);
    if (found) return new WindowStore(store, `${store.name}, ${name}`, found.start, found.size);
    throw new ParavaneError("NOT_FOUND", `${name} is not in the archive`, { file: store.name });
  };
  const named = descriptor && (yield* disksOf(store, descriptor, onWarning));
  if (!named) return { disks: members.filter(({ name }) => /\.vmdk$/i.test(name)), open };
  const disks = named.map(({ file, compression, pieces }) => {
    if (pieces || compression !== undefined) {
      const how = pieces ? "in pieces" : `packed with ${compression}`;
      throw unsupported(
        store,
        "OVF descriptor",
        `the disk ${file} is ${how}`,
        "Unpack the archive, and the disk, with tar",
      );
    }
    const found = member(file);
    if (!found) throw corrupt(store, "OVF descriptor", descriptor.start, `names ${file}, which is not in the archive`);
    return found;
  });
  return { disks, open };
}

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
function chosen(store: Store, { disks }: Archive, wanted?: string): Member {
  const names = disks.map(({ name }) => name).join(", ");
  const context = { file: store.name };
  if (disks.length === 0) throw corrupt(store, "archive", 0, "holds no disk");
  if (wanted !== undefined) {
    const found = disks.find(({ name }) => name === wanted);
    if (found) return found;
    throw new ParavaneError("NOT_FOUND", `the archive has no disk ${wanted}`, context, { hint: `It has: ${names}` });
  }
  if (disks.length === 1) return disks[0];
  throw new ParavaneError("INVALID", `the archive has ${disks.length} disks: ${names}`, context, {
    hint: `Say which: --image-opts driver=ova,member=${disks[0].name},file.filename=${store.name}, or the option \`member\``,
  });
}

function add(all: CheckReport, own: CheckReport, name: string): void {
  all.leaks += own.leaks;
  all.corruptions += own.corruptions;
  all.totalClusters += own.totalClusters;
  all.allocatedClusters += own.allocatedClusters;
  all.compressedClusters += own.compressedClusters;
  all.imageEndOffset = Math.max(all.imageEndOffset, own.imageEndOffset);
  all.problems.push(...own.problems.map((each) => ({ ...each, structure: `${each.structure} of ${name}` })));
}
