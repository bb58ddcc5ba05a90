import { parallels } from "../../src/host/format/parallels/index.ts";
import { bundleFormat, openBundle } from "../support/bundle.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import type { Pick } from "../support/fuzz-disk.ts";
import { damaged, fuzzImages, imagesOf, oddNumber, WRITTEN } from "../support/fuzz-images.ts";
import { fuzzRepair } from "../support/fuzz-repair.ts";

/** 32-bit fields that are interpreted. */
const FIELDS = [0, 12, 16, 28, 32, 36, 40, 44, 48, 52, 56, 60];
/** Those that name the format's magic number and its limits, besides. */
const value = (pick: Pick) => (pick(6) === 0 ? [8, 128, 2048, 0x746f6e59][pick(4)] : oddNumber(pick));

function change(bytes: Uint8Array, view: DataView, pick: Pick): void {
  const what = pick(10);
  if (what < 4) view.setUint32(FIELDS[pick(FIELDS.length)], value(pick), true);
  else if (what < 9) view.setUint32(64 + pick(32) * 4, pick(3) === 0 ? value(pick) : pick(20), true);
  else bytes[pick(bytes.length)] ^= 1 << pick(8);
}

const kinds = [{ clusterSize: 4096 }, { clusterSize: 65536 }];
const images = [dataFile("qemu-parallels-v1.hdd"), ...(await imagesOf("parallels", kinds))];

fuzzImages({
  title: "Parallels disks",
  format: parallels,
  runs: 1000,
  make: (pick) => ({ bytes: damaged(pick, images[pick(images.length)], change) }),
  works: (pick, disk) => [["resize", () => disk.resize((1 + pick(6000)) * 512)]],
  reached: [...WRITTEN, ...["refused: CORRUPT header", "refused: UNSUPPORTED header"]],
});

const SIZE = 1 << 20;
const first = new KeptStore(new Uint8Array(SIZE).fill(0x11));

fuzzImages({
  title: "newest files of Parallels bundles",
  format: bundleFormat(SIZE, first),
  runs: 400,
  open: (store, options) => openBundle(store, SIZE, first, options),
  make: (pick) => ({ bytes: damaged(pick, images[1 + pick(images.length - 1)], change) }),
  reached: [
    ...["opened", "Read: Ok", "Read: Media", "Write: Ok", "Write: Media", "WriteZeroes: Ok", "Flush: Ok"],
    ...["check: done", "repair: done", "repair: CORRUPT", "refused: CORRUPT header", "refused: UNSUPPORTED header"],
  ],
});

/** Bitmaps are kept, wherever they are. */
const keepsLeaks = (bytes: Uint8Array) => bytes.subarray(56, 64).some((byte) => byte !== 0);

fuzzRepair({
  title: "Parallels disks",
  format: parallels,
  runs: 400,
  make: (pick) => ({ bytes: damaged(pick, images[pick(images.length)], change) }),
  keepsLeaks,
});

fuzzRepair({
  title: "newest files of Parallels bundles",
  format: bundleFormat(SIZE, first),
  runs: 200,
  open: (store, options) => openBundle(store, SIZE, first, options),
  make: (pick) => ({ bytes: damaged(pick, images[1 + pick(images.length - 1)], change) }),
  stays: ({ message }) => message.includes("its part of the disk"),
  keepsLeaks,
});
