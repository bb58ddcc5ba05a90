import { writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { createOverlay } from "../../src/host/block/overlay.ts";
import { vmdk } from "../../src/host/format/vmdk/index.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import type { Pick } from "../support/fuzz-disk.ts";
import { damaged, fuzzImages, wholeImage } from "../support/fuzz-images.ts";
import { contentOf } from "../support/stores.ts";

/** 32-bit fields that are interpreted. */
const FIELDS = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76];
/** Where 1 MiB has its directories and tables: the copies, then the first. */
const TABLES = [21, 22, 26, 27].map((sector) => sector * 512);
const VALUES = [0, 1, 2, 3, 4, 5, 511, 512, 513, 4096, 65536, 2 ** 20, 2 ** 28, 0x7fffffff, 0x80000000, 0xfffffffe];

async function family(): Promise<{ images: Uint8Array[]; child: Uint8Array; parent: KeptStore }> {
  const fill = async (disk: Disk) => {
    for (const at of [0, 200_704, 500_224]) await writeBytes(disk, at, new Uint8Array(40_960).fill(at & 0xff || 1));
    await disk.close();
  };
  const images: Uint8Array[] = [];
  for (const options of [{}, { zeroedGrain: true }, { adapterType: "lsilogic" }]) {
    const store = new KeptStore();
    await fill(await createDisk(store, { format: "vmdk", size: 1 << 20, ...options }));
    images.push(contentOf(store));
  }
  images.push(dataFile("dfvfs-ext2.vmdk"), dataFile("plaso-image.vmdk"));
  const [parent, store] = [new KeptStore(images[0]), new KeptStore()];
  const backing = await openDisk(parent, { readOnly: true });
  await fill(await createOverlay(backing, store, { format: "vmdk", parent: { path: "p" } }));
  return { images, child: contentOf(store), parent };
}

function change(bytes: Uint8Array, view: DataView, pick: Pick): void {
  const value = () => (pick(3) === 0 ? pick(2 ** 32) : pick(2) === 0 ? pick(300) : VALUES[pick(VALUES.length)]);
  const what = pick(10);
  if (what < 4) view.setUint32(FIELDS[pick(FIELDS.length)], value(), true);
  else if (what < 8) view.setUint32(TABLES[pick(4)] + pick(18) * 4, pick(3) === 0 ? value() : pick(12) * 128, true);
  else if (what === 8) bytes[512 + pick(400)] = pick(256);
  else bytes[pick(bytes.length)] ^= 1 << pick(8);
}

const { images, child, parent } = await family();

fuzzImages({
  title: "VMDKs",
  format: vmdk,
  runs: 1000,
  make(pick, run) {
    const over = run % 4 === 1;
    const source = over ? child : images[pick(run % 20 === 0 ? images.length : 3)];
    return { bytes: damaged(pick, source, change), parent: over ? parent : undefined };
  },
  works: (pick, disk) => [
    ["resize", () => disk.resize(pick(6000) * 512)],
    ["empty", () => wholeImage(disk, (image) => image.empty!())],
    ["orphan", () => wholeImage(disk, (image) => image.setParent!(undefined))],
  ],
  reached: [
    "opened",
    "Read: Ok",
    "Read: Media",
    "Write: Ok",
    "Write: Media",
    "WriteZeroes: Ok",
    "Discard: Ok",
    "Flush: Ok",
    "refused: CORRUPT header",
    "refused: CORRUPT grain directory",
    "refused: CORRUPT descriptor",
    "refused: UNSUPPORTED header",
    "resize: done",
    "empty: done",
    "orphan: done",
    "check: done",
    "repair: done",
    "repair: CORRUPT",
  ],
});
