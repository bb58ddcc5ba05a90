import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { describe, expect } from "vitest";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { changeBitmaps } from "../../src/host/image/bitmap.ts";
import { createSnapshot } from "../../src/host/image/snapshot.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { ours, qemuImg, qemuIo, scratch, theirs } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";

const path = scratch();
const CLUSTER = 4096;
const SIZE = 8 * 2 ** 20;
const ALONE = 1n << 63n;
const OFFSET = 0x00fffffffffffe00n;
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);

/** Clusters of the guest with data, each filled with its number. */
const STORED = [0, 1, 2, 3, 40, 41, 600];

async function makeImage(file: string, options: Record<string, unknown> = {}): Promise<void> {
  const disk = await createDisk(new FileStore(file, { create: true, overwrite: true }), {
    format: "qcow2",
    size: SIZE,
    clusterSize: CLUSTER,
    ...options,
  });
  const unit = disk.describe().clusterSize as number;
  const fill = (cluster: number) => writeBytes(disk, cluster * unit, new Uint8Array(unit).fill((cluster % 250) + 1));
  for (const cluster of STORED.filter((one) => one * unit < SIZE)) await fill(cluster);
  await createSnapshot(disk, { name: "one" });
  await fill(1);
  await changeBitmaps(disk, [{ do: "add", name: "b" }]);
  await fill(2);
  await disk.close();
}

/** Where the structures of an image are. */
class Layout {
  readonly bytes: Buffer;
  readonly file: string;

  constructor(file: string) {
    this.file = file;
    this.bytes = readFileSync(file);
  }
  word(at: number): bigint {
    return this.bytes.readBigUInt64BE(at);
  }
  place(at: number): number {
    return Number(this.word(at) & OFFSET);
  }
  get l1(): number {
    return this.place(40);
  }
  get refcountTable(): number {
    return this.place(48);
  }
  get snapshotTable(): number {
    return this.place(64);
  }
  get refcountBlock(): number {
    return this.place(this.refcountTable);
  }
  get l2(): number {
    return this.place(this.l1);
  }
  get bitmapDirectory(): number {
    const at = this.bytes.indexOf(Buffer.from([0x23, 0x85, 0x28, 0x75]));
    return this.place(at + 8 + 16);
  }
  /** The L2 entry of guest cluster `cluster`. */
  entry(cluster: number, bytes = 8): number {
    const perTable = CLUSTER / bytes;
    return this.place(this.l1 + Math.floor(cluster / perTable) * 8) + (cluster % perTable) * bytes;
  }
  set(at: number, value: bigint): void {
    this.bytes.writeBigUInt64BE(value, at);
  }
  /** The 16-bit count of a cluster of the file. */
  setCount(position: number, count: number): void {
    this.bytes.writeUInt16BE(count, this.refcountBlock + (position / CLUSTER) * 2);
  }
  save(): void {
    writeFileSync(this.file, this.bytes);
  }
}

const isCorrupt = (file: string) =>
  JSON.parse(qemuImg("info", "--output=json", file))["format-specific"].data.corrupt as boolean;

/** Damage, and the guest cluster whose writing meets it, or so many of them. */
const OVERLAPS: [string, (image: Layout) => void, number, number?][] = [
  ["the L1 table", (i) => i.set(i.entry(30), BigInt(i.l1) | ALONE), 30],
  ["an L2 table", (i) => i.set(i.entry(30), BigInt(i.l2) | ALONE), 30],
  ["the refcount table", (i) => i.set(i.entry(30), BigInt(i.refcountTable) | ALONE), 30],
  ["a refcount block", (i) => i.set(i.entry(30), BigInt(i.refcountBlock) | ALONE), 30],
  ["the snapshot table", (i) => i.set(i.entry(30), BigInt(i.snapshotTable) | ALONE), 30],
  ["a snapshot's L1 table", (i) => i.set(i.entry(30), BigInt(i.place(i.snapshotTable)) | ALONE), 30],
  ["the bitmap directory", (i) => i.set(i.entry(30), BigInt(i.bitmapDirectory) | ALONE), 30],
  ["a new cluster: the L1 table is counted as free", (i) => i.setCount(i.l1, 0), 50, 100],
  ["a new cluster: an L2 table is counted as free", (i) => i.setCount(i.l2, 0), 50, 100],
  ["an L2 table in the refcount block", (i) => i.set(i.l1 + 3 * 8, BigInt(i.refcountBlock) | ALONE), 3 * 512 + 7],
  ["an L2 table in the snapshot table", (i) => i.set(i.l1 + 3 * 8, BigInt(i.snapshotTable) | ALONE), 3 * 512 + 100],
  ["preallocated zeros in the refcount table", (i) => i.set(i.entry(30), BigInt(i.refcountTable) | ALONE | 1n), 30],
];

async function guestContent(file: string): Promise<Map<number, number>> {
  const disk = await openDisk(new FileStore(file, { readOnly: true }), { format: "qcow2", readOnly: true });
  const seen = new Map<number, number>();
  for (const cluster of STORED) {
    const bytes = await readBytes(disk, cluster * CLUSTER, CLUSTER);
    if (bytes.every((byte) => byte === bytes[0])) seen.set(cluster, bytes[0]);
  }
  await disk.close();
  return seen;
}

describe("a write that would go over metadata", () => {
  for (const [name, damage, cluster, count = 1] of OVERLAPS) {
    peer(`${name}: is refused, the image marked as corrupt, and mended by a repair`, async () => {
      const file = path("a.qcow2");
      await makeImage(file);
      const image = new Layout(file);
      damage(image);
      image.save();
      copyFileSync(file, path("qemu.qcow2"));
      const before = new Layout(file).bytes;

      const disk = await openDisk(new FileStore(file));
      const at = cluster * CLUSTER;
      await expect(writeBytes(disk, at, new Uint8Array(count * CLUSTER).fill(9))).rejects.toMatchObject({
        code: "CORRUPT",
        context: { overlap: true },
      });
      // Nothing else is taken from now on; what is stored can be read.
      await expect(writeBytes(disk, 3 * CLUSTER, new Uint8Array(512))).rejects.toMatchObject({ code: "CORRUPT" });
      expect((await readBytes(disk, 3 * CLUSTER, 1))[0]).toBe(4);
      await disk.close();
      expect(isCorrupt(file)).toBe(true);
      const after = readFileSync(file);
      // What got its place before is there.
      for (const structure of [image.l1, image.refcountTable, image.snapshotTable, ...(count > 1 ? [] : [image.l2])]) {
        const same = Buffer.compare(
          after.subarray(structure, structure + CLUSTER),
          before.subarray(structure, structure + CLUSTER),
        );
        expect([structure, same]).toEqual([structure, 0]);
      }
      await expect(openDisk(new FileStore(file))).rejects.toMatchObject({ code: "CORRUPT" });

      // QEMU does the same. For a long write it wants room for the whole, finds that at the end, and never meets the structure.
      if (count === 1) {
        expect(() => qemuIo("qcow2", path("qemu.qcow2"), `write -P 9 ${at} ${CLUSTER}`)).toThrow();
        expect(isCorrupt(path("qemu.qcow2"))).toBe(true);
      }

      const repaired = await ours("check", "-r", "all", file);
      expect([name, repaired.code, repaired.stderr]).toEqual([name, 0, expect.anything()]);
      expect(isCorrupt(file)).toBe(false);
      expect(theirs("check", file)).toMatchObject({ code: 0 });
      const content = await guestContent(file);
      for (const stored of STORED) expect([stored, content.get(stored)]).toEqual([stored, (stored % 250) + 1]);
      const again = await openDisk(new FileStore(file));
      await writeBytes(again, at, new Uint8Array(CLUSTER).fill(9));
      expect((await readBytes(again, at, 1))[0]).toBe(9);
      await again.close();
      expect(theirs("check", file)).toMatchObject({ code: 0 });
    });
  }
});

/** Damage of all kinds, and the stored guest clusters that it loses. */
const DAMAGE: [string, (image: Layout) => void, number[], Record<string, unknown>?][] = [
  ["a refcount table entry that is not aligned", (i) => i.set(i.refcountTable, BigInt(i.refcountBlock + 512)), []],
  ["a refcount table entry past the end", (i) => i.set(i.refcountTable, 2n ** 26n), []],
  ["a refcount table entry to the header", (i) => i.set(i.refcountTable + 8, 512n), []],
  ["a refcount block twice", (i) => i.set(i.refcountTable + 8, BigInt(i.refcountBlock)), []],
  ["no refcount block", (i) => i.set(i.refcountTable, 0n), []],
  ["a refcount block in the L1 table", (i) => i.set(i.refcountTable, BigInt(i.l1)), []],
  ["a refcount block of zeros", (i) => i.bytes.fill(0, i.refcountBlock, i.refcountBlock + CLUSTER), []],
  ["a refcount block of ones", (i) => i.bytes.fill(0xff, i.refcountBlock, i.refcountBlock + CLUSTER), []],
  ["an L2 entry past the end", (i) => i.set(i.entry(40), (2n ** 40n) | ALONE), [40]],
  ["an L2 entry that is not aligned", (i) => i.set(i.entry(40), i.word(i.entry(40)) + 512n), [40]],
  ["a zero cluster that is not aligned", (i) => i.set(i.entry(50), 0x1200n | ALONE | 1n), []],
  ["two L2 entries to one cluster", (i) => i.set(i.entry(50), i.word(i.entry(40))), []],
  ["a compressed cluster past the end", (i) => i.set(i.entry(40), (1n << 62n) | (2n ** 40n)), [40]],
  [
    "a compressed cluster that is alone",
    (i) => i.set(i.entry(50), ALONE | (1n << 62n) | BigInt(i.place(i.entry(41)))),
    [],
  ],
  ["a compressed cluster in an L2 table", (i) => i.set(i.entry(50), (1n << 62n) | BigInt(i.l2)), []],
  [
    "a compressed cluster in the bitmap directory",
    (i) => i.set(i.entry(50), (1n << 62n) | BigInt(i.bitmapDirectory)),
    [],
  ],
  ["an L1 entry that is not aligned", (i) => i.set(i.l1 + 8, i.word(i.l1 + 8) + 512n), [600]],
  ["an L1 entry past the end", (i) => i.set(i.l1 + 8, (2n ** 40n) | ALONE), [600]],
  ["an L1 entry to the L1 table", (i) => i.set(i.l1 + 8, BigInt(i.l1) | ALONE), [600]],
  ["two L1 entries to one table", (i) => i.set(i.l1 + 16, i.word(i.l1)), []],
  ["wrong flags", (i) => i.set(i.entry(40), i.word(i.entry(40)) ^ ALONE), []],
  ["a bitmap directory that is cut off", (i) => i.bytes.writeUInt16BE(2000, i.bitmapDirectory + 18), []],
  ["a bitmap table past the end", (i) => i.set(i.bitmapDirectory, 2n ** 40n), []],
  ["a bitmap's data past the end", (i) => i.set(i.place(i.bitmapDirectory), 2n ** 40n), []],
  ["a bitmap's data in the L2 table", (i) => i.set(i.place(i.bitmapDirectory), BigInt(i.l2)), []],
  [
    "subclusters both stored and zero",
    (i) => i.set(i.entry(2, 16) + 8, 0x00000001_00000001n),
    [],
    { clusterSize: 16384, extendedL2: true },
  ],
  [
    "subclusters stored in no cluster, though it is flagged as alone",
    (i) => {
      i.set(i.entry(5, 16), ALONE);
      i.set(i.entry(5, 16) + 8, 0x00000000_000000ffn);
    },
    [],
    { clusterSize: 16384, extendedL2: true },
  ],
];

describe("check -r all", () => {
  let better = 0;
  for (const [name, damage, lost, options] of DAMAGE) {
    peer(`${name}: is mended, by our judgement and QEMU's, where QEMU's own repair may give up`, async () => {
      const file = path("b.qcow2");
      await makeImage(file, options);
      const image = new Layout(file);
      damage(image);
      image.save();
      expect((await ours("check", file)).code).not.toBe(0);
      copyFileSync(file, path("c.qcow2"));
      theirs("check", "-r", "all", path("c.qcow2"));
      const theirEnd = theirs("check", path("c.qcow2")).code;
      if (theirEnd !== 0) better++;

      expect(await ours("check", "-r", "all", file)).toMatchObject({ code: 0 });
      expect(await ours("check", file)).toMatchObject({ code: 0 });
      expect([name, theirs("check", file)]).toEqual([name, expect.objectContaining({ code: 0 })]);
      if (options) return;
      const content = await guestContent(file);
      for (const stored of STORED) {
        const wanted = lost.includes(stored) ? 0 : (stored % 250) + 1;
        expect([name, stored, content.get(stored)]).toEqual([name, stored, wanted]);
      }
    });
  }
  peer("mends more than QEMU's own repair", async () => {
    expect(better).toBeGreaterThan(3);
  });
});
