import type { Flow } from "../../src/core/flow.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { checksum } from "../../src/host/format/vhd/footer.ts";
import { vhd } from "../../src/host/format/vhd/index.ts";
import { dataFile } from "../support/data.ts";
import { KeptStore } from "../support/disks.ts";
import { filled, fuzzImages, imagesOf, WRITTEN, wholeImage } from "../support/fuzz-images.ts";
import { contentOf } from "../support/stores.ts";
import { createChild } from "../support/vhd.ts";

/** Offset and width of each field that is interpreted, from the start of its structure. */
const FOOTER = [
  [0, 8],
  [8, 4],
  [12, 4],
  [16, 8],
  [28, 4],
  [48, 8],
  [56, 2],
  [58, 1],
  [59, 1],
  [60, 4],
  [64, 4],
  [84, 1],
];
const HEADER = [
  [0, 8],
  [16, 8],
  [24, 4],
  [28, 4],
  [32, 4],
  [36, 4],
];

/** A differencing disk, and what it is over. */
async function family(): Promise<{ child: Uint8Array; parent: KeptStore }> {
  const [parent, store] = [new KeptStore(), new KeptStore()];
  await (await createDisk(parent, { format: "vhd", size: 1 << 20 })).close();
  const absolutePath = "C:\\disks\\parent.vhd";
  const disk = await createChild(store, () => openDisk(parent), { size: 1 << 20, blockSize: 65536, absolutePath });
  await filled(disk);
  return { child: contentOf(store), parent };
}

type Random = () => number;
const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)];

/** A value that parsers get wrong, or any. */
function value(random: Random, width: number, size: number): bigint {
  const sector = BigInt(Math.floor(size / 512));
  const known = [
    0n,
    1n,
    2n,
    3n,
    4n,
    511n,
    512n,
    513n,
    1536n,
    BigInt(size),
    sector,
    sector - 1n,
    sector - 2n,
    0x7fffffffn,
    0x80000000n,
    0xffffffffn,
    2n ** 40n,
    2n ** 53n,
    2n ** 63n,
    2n ** 64n - 1n,
  ];
  const chosen =
    random() < 0.7 ? pick(random, known) : BigInt(Math.floor(random() * 2 ** 53)) >> BigInt(Math.floor(random() * 50));
  return BigInt.asUintN(width * 8, chosen);
}

function poke(bytes: Uint8Array, at: number, width: number, wanted: bigint): void {
  for (let i = 0; i < width && at + i < bytes.length; i++)
    bytes[at + i] = Number((wanted >> BigInt(8 * (width - 1 - i))) & 255n);
}

/** Changes a few things in a copy, mostly where they matter, and mostly with the checksums put right. */
function mutate(random: Random, source: Uint8Array): Uint8Array {
  let bytes: Uint8Array = source.slice();
  const footer = bytes.length - 512;
  const view = new DataView(bytes.buffer);
  const table = bytes[0] === 0x63 ? 1536 : 0;
  const entries = table ? Math.min(view.getUint32(512 + 28), 256) : 0;
  for (let changes = 1 + Math.floor(random() * 3); changes > 0; changes--) {
    const what = random();
    if (what < 0.3) {
      const [at, width] = pick(random, FOOTER);
      const wanted = value(random, width, bytes.length);
      if (random() < 0.7) poke(bytes, footer + at, width, wanted);
      if (table && random() < 0.7) poke(bytes, at, width, wanted);
    } else if (what < 0.55) {
      const [at, width] = pick(random, HEADER);
      poke(bytes, 512 + at, width, value(random, width, bytes.length));
    } else if (what < 0.8 && entries) {
      const at = table + Math.floor(random() * entries) * 4;
      const other = table + Math.floor(random() * entries) * 4;
      if (random() < 0.3) bytes.copyWithin(at, other, other + 4);
      else poke(bytes, at, 4, value(random, 4, bytes.length));
    } else if (what < 0.9) {
      bytes[Math.floor(random() ** 2 * bytes.length)] ^= 1 << Math.floor(random() * 8);
    } else if (table) {
      // A bitmap of another product: whole blocks have been left out of it.
      const block = view.getUint32(table + Math.floor(random() * entries) * 4) * 512;
      for (let i = 0; i < 8; i++) if (block + i < bytes.length) bytes[block + i] = Math.floor(random() * 256);
    }
  }
  if (random() < 0.8) {
    new DataView(bytes.buffer).setUint32(footer + 64, checksum(bytes.subarray(footer), 64));
    if (table) {
      view.setUint32(64, checksum(bytes.subarray(0, 512), 64));
      view.setUint32(512 + 36, checksum(bytes.subarray(512, 1536), 36));
    }
  }
  if (random() < 0.1) bytes = bytes.slice(0, Math.floor(random() * bytes.length));
  return bytes;
}

const kinds = [{ blockSize: 65536 }, { blockSize: 4096 }, { subformat: "fixed" }];
const images = [...(await imagesOf("vhd", kinds)), dataFile("dfvfs-ext2.vhd")];
const { child, parent } = await family();
const other = { path: "other.vhd", identity: "1".repeat(32) };

fuzzImages({
  title: "VHDs",
  format: vhd,
  runs: 3000,
  make(below, run) {
    const random = () => below(2 ** 32) / 2 ** 32;
    const differencing = run % 4 === 1;
    const source = differencing ? child : pick(random, run % 20 === 0 ? images : images.slice(0, 3));
    return { bytes: mutate(random, source), parent: differencing ? parent : undefined };
  },
  works: (below, disk) => [
    ["resize", () => disk.resize(below(6000) * 512)],
    ["empty", () => wholeImage(disk, (image) => image.empty?.() ?? nothing())],
    ["set parent", () => wholeImage(disk, (image) => image.setParent?.([other, undefined][below(2)]) ?? nothing())],
  ],
  reached: [
    ...WRITTEN,
    "opened with a warning",
    "refused: CORRUPT hard disk footer",
    "refused: CORRUPT dynamic disk header",
    "refused: CORRUPT block allocation table",
    "refused: NOT_FOUND parent locator",
    ...["resize: CORRUPT", "empty: done", "set parent: done"],
  ],
});

function* nothing(): Flow {}
