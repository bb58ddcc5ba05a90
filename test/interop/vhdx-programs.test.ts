import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { peerTest } from "../support/peers.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";
import { byLibvhdi } from "../support/vhd.ts";

const MiB = 2 ** 20;
const GiB = 2 ** 30;
const SECTOR = 512;
const folder = mkdtempSync(join(tmpdir(), "vhdx-programs-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = (name: string) => join(folder, `${name}.vhdx`);
const open = (file: string, backing?: Disk) => openDisk(new FileStore(file), { backing });

/** What each sector that was touched is filled with. */
class Model {
  readonly fills = new Map<number, number>();
  size: number;

  constructor(size: number) {
    this.size = size;
  }
  fill(first: number, count: number, value: number): void {
    for (let i = 0; i < count; i++) this.fills.set(first + i, value);
  }
  resize(size: number): void {
    for (const at of this.fills.keys()) if (at >= size / SECTOR) this.fills.set(at, 0);
    this.size = size;
  }
  /** Runs of one fill, in bytes, within the disk. */
  runs(): [offset: number, length: number, fill: number][] {
    const runs: [number, number, number][] = [];
    for (const sector of [...this.fills.keys()].sort((a, b) => a - b)) {
      if (sector >= this.size / SECTOR) break;
      const fill = this.fills.get(sector)!;
      const last = runs[runs.length - 1];
      if (last && last[2] === fill && last[0] + last[1] === sector * SECTOR) last[1] += SECTOR;
      else runs.push([sector * SECTOR, SECTOR, fill]);
    }
    return runs;
  }
}

/** A range at an edge of something. */
function range(random: Random, size: number, block: number): { first: number; count: number } {
  const edges = [0, block, 3 * block, 512 * block, 4 * GiB, 2 ** 41, size].filter((edge) => edge <= size);
  const middle = Math.floor(random.pick(edges) / SECTOR);
  const last = size / SECTOR - 1;
  const first = Math.max(0, Math.min(last, middle + random.below(60) - 30));
  return { first, count: Math.min(last + 1 - first, random.oneIn(5) ? MiB / SECTOR : 1 + random.below(40)) };
}

/** @param plain only writes, which is all that libvhdi understands in a differencing disk */
async function ours(
  disk: Disk,
  model: Model,
  random: Random,
  block: number,
  steps: number,
  plain = false,
): Promise<void> {
  for (let i = 0; i < steps; i++) {
    const { first, count } = range(random, model.size, block);
    const kind = random.below(8);
    if (kind < 4 || plain) {
      const value = kind < 6 ? 1 + random.below(255) : 0;
      model.fill(first, count, value);
      await writeBytes(disk, first * SECTOR, new Uint8Array(count * SECTOR).fill(value));
    } else if (kind < 6) {
      model.fill(first, count, 0);
      await writeZeroes(disk, first * SECTOR, count * SECTOR);
    } else if (kind === 6) await flush(disk);
    else {
      const size = Math.max(SECTOR, model.size + (random.below(8000) - 4000) * SECTOR);
      await disk.resize(size);
      model.resize(Math.min(size, model.size));
      if (size > model.size) model.fill(model.size / SECTOR, Math.min(60, (size - model.size) / SECTOR), 0);
      model.size = size;
    }
  }
}

async function verify(disk: Disk, model: Model): Promise<void> {
  expect(disk.size).toBe(model.size);
  for (const [offset, length, fill] of model.runs()) {
    const bytes = await readBytes(disk, offset, length);
    if (!bytes.every((byte) => byte === fill)) throw new Error(`${length} bytes at ${offset} are not all ${fill}`);
  }
}

/** One qemu-io process for all images: it must read what the models say, then writes on. */
function byQemu(images: { file: string; model: Model; block: number }[], random: Random | undefined): void {
  const script: string[] = [];
  let reads = 0;
  for (const { file, model, block } of images) {
    script.push(`open -o driver=vhdx ${file}`);
    for (const [offset, length, fill] of model.runs()) {
      script.push(`read -P ${fill} ${offset} ${length}`);
      reads++;
    }
    for (let i = 0; random && i < 4; i++) {
      const { first, count } = range(random, model.size, block);
      const value = random.oneIn(3) ? 0 : 1 + random.below(255);
      model.fill(first, count, value);
      const what = value ? `write -P ${value}` : "write -z";
      script.push(`${what} ${first * SECTOR} ${count * SECTOR}`);
    }
    script.push("close");
  }
  const output = execFileSync("qemu-io", [], {
    input: `${script.join("\n")}\nquit\n`,
    encoding: "utf8",
    maxBuffer: 1 << 28,
  });
  expect(output.match(/^.*(failed|error|denied|no file|invalid).*$/gim) ?? []).toEqual([]);
  expect(output.match(/^(qemu-io> )*read \d+\/\d+ bytes/gm)?.length).toBe(reads);
}

const PROGRAMS = tier(60, 1_000);

peerTest(
  "qemu-io",
  "qemu-utils",
  `${PROGRAMS} programs, in turns with qemu-io on the same images`,
  async () => {
    const random = new Random(33);
    const images: { file: string; model: Model; block: number }[] = [];
    for (let i = 0; i < PROGRAMS; i++) {
      const block = random.pick([1, 1, 2, 8, 32, 256]) * MiB;
      const fixed = random.oneIn(4);
      const size = random.pick(fixed ? [3, 20, 34] : [3, 40, 5 * 1024, 3 * 2 ** 20]) * MiB + random.below(5) * SECTOR;
      const file = path(`p${i}`);
      const model = new Model(size);
      const store = new FileStore(file, { create: true });
      const subformat = fixed ? "fixed" : "dynamic";
      const disk = await createDisk(store, { format: "vhdx", size, subformat, blockSize: block });
      await ours(disk, model, random, block, 8);
      await disk.close();
      images.push({ file, model, block });
    }
    byQemu(images, random);
    for (const { file, model, block } of images) {
      const disk = await open(file);
      await verify(disk, model);
      await ours(disk, model, random, block, 6);
      await verify(disk, model);
      await disk.close();
    }
    byQemu(images, undefined);
    for (const { file } of images.filter((_, i) => i % tier(4, 1) === 0)) {
      expect(execFileSync("qemu-img", ["check", "-f", "vhdx", file], { encoding: "utf8" })).toMatch(/No errors/);
    }
  },
  3_600_000,
);

peerTest(
  "vhdiinfo",
  "libvhdi-utils and python3-libvhdi",
  "programs on differencing disks, read by libvhdi",
  async () => {
    const random = new Random(34);
    const checks: Parameters<typeof byLibvhdi>[0] = [];
    for (let i = 0; i < tier(40, 600); i++) {
      const size = random.pick([3, 40, 5 * 1024]) * MiB + random.below(5) * SECTOR;
      const model = new Model(size);
      const [base, child] = [path(`base${i}`), path(`child${i}`)];
      const block = random.pick([1, 2, 32]) * MiB;
      const parent = await createDisk(new FileStore(base, { create: true }), { format: "vhdx", size });
      for (let k = 0; k < 5; k++) {
        const { first, count } = range(random, size, block);
        model.fill(first, count, 1 + k);
        await writeBytes(parent, first * SECTOR, new Uint8Array(count * SECTOR).fill(1 + k));
      }
      const identity = String(parent.describe().dataWriteGuid);
      await parent.close();
      const options = { format: "vhdx", size, blockSize: block, parent: { path: `base${i}.vhdx`, identity } };
      const over = () => openDisk(new FileStore(base, { readOnly: true }), { readOnly: true });
      const disk = await createDisk(new FileStore(child, { create: true }), { ...options, backing: await over() });
      // libvhdi 20210425 shows the parent through blocks of state Zero, fails where a child is larger than its parent,
      // and takes the file's first bytes for the sector bitmap of a chunk that has none.
      for (let at = 0; at < size; at += 4 * GiB) {
        model.fill(at / SECTOR, 1, 0x99);
        await writeBytes(disk, at, new Uint8Array(SECTOR).fill(0x99));
      }
      await ours(disk, model, random, block, 8, true);
      await verify(disk, model);
      await disk.close();
      checks.push({ chain: [child, base], size: model.size, runs: model.runs() });
    }
    expect(byLibvhdi(checks)).toBe("");
  },
  3_600_000,
);
