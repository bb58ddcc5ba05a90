import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import type { ParavaneError } from "../../src/core/error.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { FORMATS } from "../../src/host/format/index.ts";
import { applySnapshot, createSnapshot, deleteSnapshot } from "../../src/host/image/snapshot.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { peerTest } from "../support/peers.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

// Random programs on images of every writable format, each judged three times: by a plain model after every step that may
// leave a choice, by the model at the end, and by qemu-io, which reads the same image. One qemu-io reads a hundred images.

const SECTOR = 512;
const MiB = 2 ** 20;
const GiB = 2 ** 30;
const PROGRAMS = tier(2000, 20_000);
const BATCH = 100;
const folder = mkdtempSync(join(tmpdir(), "paravane-programs-"));
afterAll(() => rmSync(folder, { recursive: true }));

interface Kind {
  name: string;
  /** By QEMU's name. */
  driver: string;
  options: Record<string, unknown>;
  /** Largest size in bytes. */
  most: number;
  snapshots?: boolean;
  /** Its extents are files of their own; only the last one can grow or shrink. */
  extents?: boolean;
}
const KINDS: Kind[] = [
  { name: "raw", driver: "raw", options: { format: "raw" }, most: 3 * 2 ** 40 },
  { name: "vhd, dynamic", driver: "vpc", options: { format: "vhd" }, most: 2040 * GiB },
  { name: "vhd, fixed", driver: "vpc", options: { format: "vhd", subformat: "fixed" }, most: 6 * GiB },
  { name: "parallels", driver: "parallels", options: { format: "parallels" }, most: 3 * 2 ** 40 },
  { name: "vdi, dynamic", driver: "vdi", options: { format: "vdi" }, most: 3 * 2 ** 40 },
  { name: "vdi, fixed", driver: "vdi", options: { format: "vdi", subformat: "fixed" }, most: 20 * MiB },
  { name: "vmdk", driver: "vmdk", options: { format: "vmdk" }, most: 6 * GiB },
  { name: "vmdk, zeroed grains", driver: "vmdk", options: { format: "vmdk", zeroedGrain: true }, most: 6 * GiB },
  ...[
    ["twoGbMaxExtentSparse", 6 * GiB],
    ["twoGbMaxExtentFlat", 6 * GiB],
    ["monolithicFlat", 6 * GiB],
    ["vmfs", 20 * MiB],
    ["vmfsSparse", 6 * GiB],
  ].map(([subformat, most]) => ({
    ...{ name: `vmdk, ${subformat}`, driver: "vmdk", options: { format: "vmdk", subformat } },
    ...{ most: Number(most), extents: true },
  })),
  { name: "vhdx", driver: "vhdx", options: { format: "vhdx", blockSize: MiB }, most: 3 * 2 ** 40 },
  { name: "vhdx, fixed", driver: "vhdx", options: { format: "vhdx", subformat: "fixed" }, most: 20 * MiB },
  { name: "qcow2", driver: "qcow2", options: { format: "qcow2" }, most: 3 * 2 ** 40, snapshots: true },
  {
    name: "qcow2, small clusters, one-bit counts",
    driver: "qcow2",
    options: { format: "qcow2", clusterSize: 4096, refcountBits: 1 },
    most: 6 * GiB,
  },
  {
    name: "qcow2, subclusters, lazy counts",
    driver: "qcow2",
    options: { format: "qcow2", extendedL2: true, lazyRefcounts: true },
    most: 3 * 2 ** 40,
    snapshots: true,
  },
];

test("every format that is written is in this suite", () => {
  const written = FORMATS.filter(({ create }) => create).map(({ name }) => name);
  // Whoever reads it needs a passphrase: luks.test.ts and qcow2-encrypted.test.ts have their own programs.
  const elsewhere = ["luks"];
  const here = KINDS.map(({ options }) => options.format);
  expect(written.filter((name) => !elsewhere.includes(name) && !here.includes(name))).toEqual([]);
});

/** What each sector that was touched is filled with. */
type Fills = Map<number, number>;

/** Sizes of every kind: odd, not whole blocks, past 32 bits of bytes and of sectors. */
function sizeFor(random: Random, most: number): number {
  const near = random.pick([SECTOR, 64 * 1024, 2 * MiB, 5 * MiB, 4 * GiB, 2 ** 41].filter((size) => size < most));
  return Math.max(SECTOR, Math.min(most, near + (random.below(9) - 4) * SECTOR));
}

/** A range near an edge of something. */
function rangeIn(random: Random, size: number): [first: number, count: number] {
  const edges = [0, 4096, 65536, MiB, 2 * MiB, 4 * GiB, 2 ** 40, 2 ** 41, size].filter((edge) => edge <= size);
  const last = size / SECTOR - 1;
  const first = Math.max(0, Math.min(last, random.pick(edges) / SECTOR + random.below(40) - 20));
  const most = random.oneIn(6) ? 3000 : 40;
  return [first, Math.min(last + 1 - first, 1 + random.below(most))];
}

async function expectFills(disk: Disk, fills: Fills): Promise<void> {
  for (const [first, count, fill] of runsOf(fills)) {
    const bytes = await readBytes(disk, first * SECTOR, count * SECTOR);
    const wrong = bytes.findIndex((byte) => byte !== fill);
    if (wrong >= 0) expect(`byte ${first * SECTOR + wrong} is ${bytes[wrong]}`).toBe(`${fill}`);
  }
}

function runsOf(fills: Fills): [first: number, count: number, fill: number][] {
  const runs: [number, number, number][] = [];
  for (const sector of [...fills.keys()].sort((a, b) => a - b)) {
    const fill = fills.get(sector)!;
    const last = runs.at(-1);
    if (last && last[2] === fill && last[0] + last[1] === sector) last[1]++;
    else runs.push([sector, 1, fill]);
  }
  return runs;
}

/** Runs one program on a new image at `path`; what must be read from it. */
async function program(path: string, { options, most, snapshots, extents }: Kind, random: Random): Promise<Fills> {
  const store = () => new FileStore(path, { durable: false });
  let size = sizeFor(random, most);
  let fills: Fills = new Map();
  const kept: { name: string; size: number; fills: Fills }[] = [];
  const created = new FileStore(path, { create: true, durable: false });
  const openFile = (name: string) => new FileStore(join(folder, name), { durable: false });
  const make = (name: string) => new FileStore(join(folder, name), { create: true, durable: false });
  const more = extents ? { openFile, files: { name: basename(path), make } } : {};
  let disk = await createDisk(created, { ...options, ...more, size } as never);
  const reopen = async () => {
    await disk.close();
    disk = await openDisk(store(), { format: options.format as string, ...(extents && { openFile }) });
  };
  for (let step = 4 + random.below(10); step > 0; step--) {
    const [first, count] = rangeIn(random, size);
    const fill = (value: number) => {
      for (let i = 0; i < count; i++) fills.set(first + i, value);
    };
    const kind = random.below(snapshots ? 15 : 12);
    if (kind < 5) {
      const value = random.below(256);
      await writeBytes(disk, first * SECTOR, new Uint8Array(count * SECTOR).fill(value));
      fill(value);
    } else if (kind < 7) {
      await writeZeroes(disk, first * SECTOR, count * SECTOR);
      fill(0);
    } else if (kind === 7) {
      await discard(disk, first * SECTOR, count * SECTOR);
      // Each sector is as it was, or zeros; which of them it is stays.
      const bytes = await readBytes(disk, first * SECTOR, count * SECTOR);
      for (let i = 0; i < count; i++) {
        const now = bytes[i * SECTOR];
        if (now !== 0) expect(now).toBe(fills.get(first + i) ?? 0);
        fills.set(first + i, now);
      }
    } else if (kind === 8) await flush(disk);
    else if (kind === 9) await reopen();
    else if (kind < 12) {
      // Images with snapshots of another size are left as large as they are, as QEMU leaves some of them.
      if (kept.length > 0) continue;
      const wanted = sizeFor(random, Math.min(most, Math.max(64 * MiB, size * 2)));
      try {
        await disk.resize(wanted);
      } catch (thrown) {
        if (!extents || (thrown as ParavaneError).code !== "UNSUPPORTED") throw thrown;
        continue;
      }
      size = wanted;
      fills = new Map([...fills].filter(([sector]) => sector < size / SECTOR));
    } else if (kind === 12 && kept.length < 3) {
      const name = `s${step}`;
      await createSnapshot(disk, { name });
      kept.push({ name, size, fills: new Map(fills) });
    } else if (kept.length > 0) {
      const chosen = random.pick(kept);
      if (kind === 13) {
        await applySnapshot(disk, chosen.name);
        // What was touched since must read as it did then.
        const then = new Map(chosen.fills);
        for (const sector of fills.keys()) if (!then.has(sector)) then.set(sector, 0);
        fills = then;
      } else {
        await deleteSnapshot(disk, chosen.name);
        kept.splice(kept.indexOf(chosen), 1);
      }
    }
  }
  expect(disk.size).toBe(size);
  await expectFills(disk, fills);
  await disk.close();
  return fills;
}

/** Has one qemu-io read all of the images; what it does not find as it should be. */
function judge(driver: string, images: { path: string; fills: Fills }[]): string[] {
  const script: string[] = [];
  let reads = 0;
  for (const { path, fills } of images) {
    script.push(`open -r -o driver=${driver} ${path}`);
    for (const [first, count, fill] of runsOf(fills)) {
      script.push(`read -P ${fill} ${first * SECTOR} ${count * SECTOR}`);
      reads++;
    }
    script.push("close");
  }
  const input = `${script.join("\n")}\n`;
  const { stdout, stderr } = spawnSync("qemu-io", { input, encoding: "utf8", maxBuffer: 2 ** 28 });
  const lines = `${stdout}\n${stderr}`.split("\n");
  const wrong = lines.filter((line) => /fail|error|could not|cannot|can't|no file open/i.test(line));
  if (wrong.length > 0) return wrong;
  const done = lines.filter((line) => /^(qemu-io> )*read (\d+)\/\2 bytes/.test(line)).length;
  return done === reads ? [] : [`${done} reads of ${reads}`];
}

describe.each(KINDS)("$name", (kind) => {
  // Files made and removed are what takes the time.
  const programs = kind.extents ? PROGRAMS / 10 : PROGRAMS;
  peerTest(
    "qemu-io",
    "qemu-utils",
    `${programs} programs leave what the model and qemu-io read`,
    async () => {
      let read = 0;
      for (let batch = 0; batch < programs; batch += BATCH) {
        const images: { path: string; fills: Fills }[] = [];
        for (let i = 0; i < BATCH; i++) {
          const path = join(folder, `${i}.img`);
          const fills = await program(path, kind, new Random(batch + i + 1)).catch((thrown) => {
            throw new Error(`program ${batch + i + 1}: ${thrown}`, { cause: thrown });
          });
          images.push({ path, fills });
          read += fills.size;
        }
        if (batch === 0) {
          // A judge that is told something else says so.
          const other = images.map(({ path, fills }) => ({ path, fills: new Map([[0, (fills.get(0) ?? 0) ^ 1]]) }));
          expect(judge(kind.driver, other).length).toBeGreaterThanOrEqual(BATCH);
        }
        expect(judge(kind.driver, images), `programs ${batch + 1} to ${batch + BATCH}`).toEqual([]);
        for (const name of readdirSync(folder)) rmSync(join(folder, name));
      }
      expect(read).toBeGreaterThan(programs * 20);
    },
    600_000,
  );
});
