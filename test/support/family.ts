import { expect } from "vitest";
import type { Block } from "../../src/core/block.ts";
import type { SegmentList } from "../../src/core/segments.ts";
import { readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { createOverlay } from "../../src/host/block/overlay.ts";
import type { Place } from "../../src/host/block/places.ts";
import { KeptStore } from "./disks.ts";
import { randomFrom } from "./stores.ts";

/** A format over a base of its own or another: base format and options, then the overlay's. */
export interface Pair {
  name: string;
  base: { format: string; [option: string]: unknown };
  top: { format: string; [option: string]: unknown };
}

/** Every overlay that is a real image. */
export const PAIRS: Pair[] = [
  { name: "qcow2 over qcow2", base: { format: "qcow2" }, top: { format: "qcow2" } },
  { name: "qcow2 over raw", base: { format: "raw" }, top: { format: "qcow2", clusterSize: 4096 } },
  { name: "qcow2 v2 over VHD", base: { format: "vhd" }, top: { format: "qcow2", compat: "0.10" } },
  { name: "qcow2 with subclusters over VHDX", base: { format: "vhdx" }, top: { format: "qcow2", extendedL2: true } },
  {
    name: "qcow2 over VHDX with sectors of 4096",
    base: { format: "vhdx", logicalSectorSize: 4096 },
    top: { format: "qcow2", clusterSize: 512 },
  },
  { name: "vhd over vhd", base: { format: "vhd" }, top: { format: "vhd" } },
  { name: "vmdk over vmdk", base: { format: "vmdk" }, top: { format: "vmdk" } },
  { name: "vdi over vdi", base: { format: "vdi" }, top: { format: "vdi", blockSize: 65536 } },
  { name: "vhdx over vhdx", base: { format: "vhdx" }, top: { format: "vhdx" } },
];

/** Bytes, and the same again, for as long as the seed is. */
export class Content {
  readonly bytes: Uint8Array;
  readonly #random: () => number;
  constructor(size: number, seed: number) {
    this.bytes = new Uint8Array(size);
    this.#random = randomFrom(seed);
  }

  /** Writes here and there, zeros among it, into the disk and into `bytes` alike; sectors of `unit`. */
  async scribble(disk: Block, times: number, unit = 512): Promise<void> {
    const most = Math.floor(Math.min(disk.size, this.bytes.length) / unit);
    for (let i = 0; i < times; i++) {
      const sector = Math.floor(this.#random() * most);
      const count = Math.min(most - sector, 1 + Math.floor(this.#random() ** 3 * 400));
      const [at, length] = [sector * unit, count * unit];
      if (this.#random() < 0.2) {
        await writeZeroes(disk, at, length);
        this.bytes.fill(0, at, at + length);
      } else {
        const bytes = new Uint8Array(length);
        for (let j = 0; j < length; j += 64) bytes.fill(1 + this.#random() * 255, j, j + 64);
        await writeBytes(disk, at, bytes);
        this.bytes.set(bytes, at);
      }
    }
  }

  async check(disk: Block): Promise<void> {
    const read = await readBytes(disk, 0, disk.size);
    const expected = new Uint8Array(disk.size);
    expected.set(this.bytes.subarray(0, disk.size));
    if (Buffer.compare(read, expected) === 0) return;
    const first = read.findIndex((byte, i) => byte !== expected[i]);
    expect.fail(`byte ${first} of ${disk.size} is ${read[first]}, not ${expected[first]}`);
  }
}

/** Tells of each write. */
class WatchedStore extends KeptStore {
  onWrite: () => void = () => {};
  override writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    super.writev(position, memory, segments);
    this.onWrite();
  }
}

/** Every place of the disk, not only the first ones; those that the image holds itself. */
export async function ownPlaces(disk: Disk): Promise<[offset: number, place: Place][]> {
  const list: [number, Place][] = [];
  for (let at = 0; at < disk.size; ) {
    for (const place of await disk.places(at, disk.size - at)) {
      const last = list.at(-1);
      const follows =
        last?.[1].kind === place.kind &&
        last[0] + last[1].length === at &&
        (place.position === undefined || last[1].position! + last[1].length === place.position);
      if (place.depth === 0 && place.kind !== "hole") {
        if (follows) last[1].length += place.length;
        else list.push([at, { ...place }]);
      }
      at += place.length;
    }
  }
  return list;
}

/** A base with content, and an overlay over it with other content; both stores outlive their disks. */
export async function family({ base, top }: Pair, baseSize: number, topSize: number, seed: number) {
  const stores = { base: new WatchedStore(0, { name: "base" }), top: new WatchedStore(0, { name: "top" }) };
  const made = await createDisk(stores.base, { size: baseSize, ...base });
  const below = new Content(Math.max(baseSize, topSize), seed);
  await below.scribble(made, 30, made.sectorSize);
  await made.close();
  const over = await createOverlay(await openDisk(stores.base, { format: base.format, readOnly: true }), stores.top, {
    size: topSize,
    ...top,
    parent: { path: "base" },
  });
  const content = new Content(topSize, seed + 1);
  content.bytes.set(below.bytes.subarray(0, Math.min(baseSize, topSize)));
  await content.scribble(over, 20);
  await over.close();

  const open = async ({ writable = false } = {}): Promise<{ disk: Disk; base: Disk }> => {
    const backing = await openDisk(stores.base, { format: base.format, readOnly: !writable });
    return { base: backing, disk: await openDisk(stores.top, { format: top.format, backing }) };
  };
  return { stores, open, below, content };
}
