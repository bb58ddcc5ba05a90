import { writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk } from "../../src/host/block/open.ts";
import { parallels } from "../../src/host/format/parallels/index.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import type { Pick } from "../support/fuzz-disk.ts";
import { damaged, fuzzImages } from "../support/fuzz-images.ts";
import { contentOf } from "../support/stores.ts";

/** 32-bit fields that are interpreted. */
const FIELDS = [0, 12, 16, 28, 32, 36, 40, 44, 48, 52, 56, 60];
const VALUES = [0, 1, 2, 3, 8, 128, 511, 512, 2048, 65536, 2 ** 28, 0x746f6e59, 0x7fffffff, 0x80000000, 0xffffffff];

async function sources(): Promise<Uint8Array[]> {
  const images = [dataFile("qemu-parallels-v1.hdd")];
  for (const clusterSize of [4096, 65536]) {
    const store = new KeptStore();
    const disk = await createDisk(store, { format: "parallels", size: 1 << 20, clusterSize });
    for (const at of [0, 200_704, 500_224]) await writeBytes(disk, at, new Uint8Array(40_960).fill(at & 0xff || 1));
    await disk.close();
    images.push(contentOf(store));
  }
  return images;
}

function change(bytes: Uint8Array, view: DataView, pick: Pick): void {
  const value = () => (pick(4) === 0 ? pick(2 ** 32) : pick(2) === 0 ? pick(300) : VALUES[pick(VALUES.length)]);
  const what = pick(10);
  if (what < 4) view.setUint32(FIELDS[pick(FIELDS.length)], value(), true);
  else if (what < 9) view.setUint32(64 + pick(32) * 4, pick(3) === 0 ? value() : pick(20), true);
  else bytes[pick(bytes.length)] ^= 1 << pick(8);
}

const images = await sources();

fuzzImages({
  title: "Parallels disks",
  format: parallels,
  runs: 1000,
  make: (pick) => ({ bytes: damaged(pick, images[pick(images.length)], change) }),
  works: (pick, disk) => [["resize", () => disk.resize((1 + pick(6000)) * 512)]],
  reached: [
    ...["opened", "refused: CORRUPT header", "refused: UNSUPPORTED header"],
    ...["Read: Ok", "Read: Media", "Write: Ok", "Write: Media", "WriteZeroes: Ok", "Discard: Ok", "Flush: Ok"],
    ...["resize: done", "check: done", "repair: done", "repair: CORRUPT"],
  ],
});
