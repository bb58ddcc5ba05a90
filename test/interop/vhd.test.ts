import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect } from "vitest";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../src/host/block/open.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { dataFile } from "../support/data.ts";
import { peerTest } from "../support/peers.ts";
import { afterCut, RecordingStore } from "../support/power.ts";
import { Content, runProgram, sizes } from "../support/program.ts";
import { Random } from "../support/random.ts";
import { contentOf, randomFrom } from "../support/stores.ts";
import { tier } from "../support/tier.ts";
import { type ByteCheck, byLibvhdi, createChild, GiB, MiB, openChild, SECTOR } from "../support/vhd.ts";

const folder = fs.mkdtempSync(join(tmpdir(), "paravane-vhd-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));
let files = 0;
const path = (ending = "vhd") => join(folder, `${files++}.${ending}`);
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const virtualSize = (format: string, file: string): number =>
  JSON.parse(qemuImg("info", "-f", format, "--output=json", file))["virtual-size"];
const open = (file: string, options: object = {}): Promise<Disk> => openDisk(new FileStore(file, options), options);

/** Runs the commands in one process; what failed, or "". */
function qemuIo(format: string, file: string, commands: string[]): string {
  const input = `${commands.join("\n")}\nquit\n`;
  const output = execFileSync("qemu-io", ["-f", format, file], { input, encoding: "utf8", maxBuffer: 1 << 27 });
  return output
    .split("\n")
    .filter((line) => /fail|error|invalid|cannot/i.test(line))
    .slice(0, 5)
    .join("\n");
}
const reads = (runs: readonly [number, number, number][]) =>
  runs.map(([offset, length, fill]) => `read -P ${fill} ${offset} ${length}`);

/** The runs to ask others about: all, or the first and last of too many. */
function asked(content: Content, touched: readonly [number, number][], size: number): [number, number, number][] {
  const runs = touched.flatMap(([first, count]) => {
    const inside = Math.min(count, size / SECTOR - first);
    return inside > 0 ? content.runs(first, inside) : [];
  });
  return runs.length > 600 ? [...runs.slice(0, 300), ...runs.slice(-300)] : runs;
}

const qemu = (name: string, body: () => Promise<void>) =>
  peerTest("qemu-img", "qemu-utils", name, body, tier(120_000, 7_200_000));
const libvhdi = (name: string, body: () => Promise<void>) =>
  peerTest("python:pyvhdi", "python3-libvhdi", name, body, tier(120_000, 7_200_000));

describe("every way that qemu-img makes a VHD", () => {
  for (const subformat of ["dynamic", "fixed"]) {
    for (const forceSize of ["on", "off"]) {
      qemu(`${subformat}, force_size=${forceSize}`, async () => {
        for (const size of [
          3 * MiB + SECTOR,
          100 * MiB,
          4 * GiB + 5 * SECTOR,
          ...(subformat === "dynamic" ? [1500 * GiB] : []),
        ]) {
          const file = path();
          qemuImg(
            "create",
            "-q",
            "-f",
            "vpc",
            "-o",
            `subformat=${subformat},force_size=${forceSize}`,
            file,
            String(size),
          );
          const theirs = virtualSize("vpc", file);
          const last = theirs - 8 * SECTOR;
          const patterns = [
            [0, 8 * SECTOR, 1],
            [2 * MiB - SECTOR, 3 * SECTOR, 2],
            [last, 8 * SECTOR, 3],
          ] as [number, number, number][];
          const write = patterns.map(([offset, length, fill]) => `write -P ${fill} ${offset} ${length}`);
          expect(qemuIo("vpc", file, write)).toBe("");
          // Read as they do.
          const disk = await open(file);
          expect(disk.size).toBe(theirs);
          for (const [offset, length, fill] of patterns) {
            expect([...new Set(await readBytes(disk, offset, length))]).toEqual([fill]);
          }
          expect([...new Set(await readBytes(disk, MiB, 64 * SECTOR))]).toEqual([0]);
          // Written as they would.
          await writeBytes(disk, MiB + SECTOR, new Uint8Array(MiB).fill(9));
          await disk.close();
          expect(virtualSize("vpc", file)).toBe(theirs);
          const model = new Content();
          for (const [offset, length, fill] of patterns) model.fill(offset / SECTOR, length / SECTOR, fill);
          model.fill(MiB / SECTOR + 1, MiB / SECTOR, 9);
          const all = [...model.runs(0, 6144), ...model.runs(last / SECTOR, 8)];
          expect(qemuIo("vpc", file, reads(all))).toBe("");
          // Grown and shrunk to sizes that no geometry says.
          for (const next of [theirs + 7 * SECTOR, theirs + 300 * MiB + SECTOR, 3 * MiB - SECTOR]) {
            const again = await open(file);
            await again.resize(next);
            await again.close();
            expect(virtualSize("vpc", file)).toBe(next);
            const end = Math.min(next, theirs) / SECTOR;
            model.cut(end);
            expect(
              qemuIo(
                "vpc",
                file,
                reads([
                  ...model.runs(0, Math.min(end, 6144)),
                  ...model.runs(end - 8, 8),
                  ...(next > theirs ? model.runs(theirs / SECTOR, 7) : []),
                ]),
              ),
            ).toBe("");
          }
          fs.rmSync(file);
        }
      });
    }
  }

  qemu("ours compare equal to a raw disk with the same content", async () => {
    for (const options of [
      {},
      { subformat: "fixed" },
      { forceSize: false },
      { blockSize: 4 * MiB },
      { blockSize: 512 * 1024 },
    ]) {
      const [ours, raw] = [path(), path("raw")];
      const disk = await createDisk(new FileStore(ours, { create: true }), {
        format: "vhd",
        size: 21 * MiB + SECTOR,
        ...options,
      });
      const other = await createDisk(new FileStore(raw, { create: true }), { format: "raw", size: disk.size });
      const random = new Random(5);
      for (let i = 0; i < 40; i++) {
        const offset = random.below(disk.size / SECTOR) * SECTOR;
        const bytes = new Uint8Array(Math.min(SECTOR * (1 + random.below(900)), disk.size - offset)).fill(i + 1);
        for (const each of [disk, other]) await writeBytes(each, offset, bytes);
      }
      await disk.close();
      await other.close();
      expect(qemuImg("compare", "-f", "vpc", "-F", "raw", ours, raw)).toContain("identical");
    }
  });
});

/** Programs over real files; QEMU reads what we wrote, writes itself, and we read that. */
describe.each([
  ["raw", { format: "raw" }, "raw", 3 * 2 ** 40],
  ["dynamic VHD", { format: "vhd" }, "vpc", 2040 * GiB],
  ["fixed VHD", { format: "vhd", subformat: "fixed" }, "vpc", 300 * GiB],
] as const)("random programs judged by qemu-io: %s", (name, options, format, maxSize) => {
  qemu("the same bytes", async () => {
    const counts: Record<string, number> = {};
    let runs = 0;
    for (let seed = 0; seed < tier(15, 200); seed++) {
      const random = new Random(seed + 100);
      const file = path();
      const size = sizes(random, 2 * MiB, maxSize);
      await (await createDisk(new FileStore(file, { create: true }), { ...options, size })).close();
      const content = new Content();
      const again = () => open(file, { format: options.format });
      const subject = { unit: 2 * MiB, maxSize, open: again };
      for (let round = 0; round < 2; round++) {
        const end = await runProgram(subject, content, random, 8, counts);
        expect(virtualSize(format, file)).toBe(end.size);
        const list = asked(content, end.touched, end.size);
        runs += list.length;
        expect([seed, qemuIo(format, file, reads(list))]).toEqual([seed, ""]);
        const commands = end.touched.slice(-4).flatMap(([first, count], i) => {
          const inside = Math.min(count, 200, end.size / SECTOR - first);
          if (inside <= 0) return [];
          const fill = i === 3 ? 0 : 1 + random.below(255);
          content.fill(first, inside, fill);
          return [`write ${fill === 0 ? "-z" : `-P ${fill}`} ${first * SECTOR} ${inside * SECTOR}`];
        });
        expect([seed, qemuIo(format, file, commands)]).toEqual([seed, ""]);
        const disk = await again();
        for (const [offset, length, fill] of asked(content, end.touched, end.size)) {
          expect([seed, offset, ...new Set(await readBytes(disk, offset, length))]).toEqual([seed, offset, fill]);
        }
        await disk.close();
      }
      fs.rmSync(file);
    }
    console.log(`${name}: ${runs} runs of sectors compared with qemu-io, ${JSON.stringify(counts)}`);
  });
});

qemu("what a power cut leaves of a dynamic disk QEMU reads as we do", async () => {
  let cuts = 0;
  for (let seed = 0; seed < tier(3, 20); seed++) {
    const store = new RecordingStore();
    await (await createDisk(store, { format: "vhd", size: 128 * 65536 - SECTOR, blockSize: 65536 })).close();
    const start = store.steps.length;
    const subject = { unit: 65536, maxSize: 40 * MiB, open: () => openDisk(store) };
    await runProgram(subject, new Content(), new Random(seed + 3), 10, {});
    const uniform = randomFrom(seed);
    for (let count = start; count <= store.steps.length; count += tier(5, 1)) {
      for (const torn of [undefined, uniform]) {
        const left = afterCut(store.steps, count, torn);
        const file = path();
        fs.writeFileSync(file, contentOf(left));
        const raw = path("raw");
        qemuImg("convert", "-f", "vpc", "-O", "raw", file, raw);
        const theirs = new Uint8Array(fs.readFileSync(raw));
        const disk = await openDisk(left, { readOnly: true });
        // Between its two footers a resize is done for one of us, and not for the other.
        const both = Math.min(disk.size, theirs.length);
        const ours = await readBytes(disk, 0, disk.size);
        expect([seed, count, Buffer.compare(ours.subarray(0, both), theirs.subarray(0, both))]).toEqual([
          seed,
          count,
          0,
        ]);
        expect(theirs.subarray(both).some((byte) => byte !== 0)).toBe(false);
        cuts++;
        fs.rmSync(file);
        fs.rmSync(raw);
      }
    }
  }
  console.log(`${cuts} cuts compared with QEMU`);
});

libvhdi("random programs on chains of differencing disks are read alike by libvhdi", async () => {
  const checks: ByteCheck[] = [];
  const counts: Record<string, number> = {};
  const total = tier(40, 400);
  for (let seed = 0; seed < total; seed++) {
    const random = new Random(seed + 500);
    const size = sizes(random, 2 * MiB, 2040 * GiB);
    let content: Content | undefined;
    let chain: string[] = [];
    const opener = (list: string[]) => async (): Promise<Disk> =>
      list.length === 1
        ? open(list[0], { readOnly: true })
        : openChild(new FileStore(list[0], { readOnly: true }), opener(list.slice(1)), true);
    const depth = 2 + random.below(2);
    for (let level = 0; level < depth; level++) {
      const file = path();
      const below = chain;
      const disk =
        level === 0
          ? await createDisk(new FileStore(file, { create: true }), { format: "vhd", size })
          : await createChild(new FileStore(file, { create: true }), opener(below), { size, path: `.\\${below[0]}` });
      await disk.close();
      content = new Content(content, content ? size : 0);
      const subject = {
        unit: 2 * MiB,
        maxSize: size,
        // libvhdi 20210425 takes a sector for the child's when one before it in the same byte of the bitmap is.
        grain: 8,
        open: () => (level === 0 ? open(file) : openChild(new FileStore(file), opener(below))),
      };
      // All of one size, as products make them.
      const { touched } = await runProgram(subject, content, random, 8, counts, false);
      chain = [file, ...below];
      checks.push({ chain, size, runs: asked(content, touched, size) });
    }
    if (checks.length > 100 || seed === total - 1) {
      expect(byLibvhdi(checks.splice(0))).toBe("");
      for (const name of fs.readdirSync(folder)) fs.rmSync(join(folder, name));
    }
  }
  console.log(`${total} chains, ${JSON.stringify(counts)}`);
});

libvhdi("resized disks, others' parents and samples too", async () => {
  const checks: ByteCheck[] = [];
  for (const options of [{}, { subformat: "fixed" }]) {
    const file = path();
    const disk = await createDisk(new FileStore(file, { create: true }), {
      format: "vhd",
      size: 100 * MiB,
      ...options,
    });
    await writeBytes(disk, 3 * MiB, new Uint8Array(4096).fill(5));
    await disk.resize(500 * MiB + SECTOR);
    await writeBytes(disk, disk.size - SECTOR, new Uint8Array(SECTOR).fill(6));
    await disk.close();
    checks.push({
      chain: [file],
      size: 500 * MiB + SECTOR,
      runs: [
        [3 * MiB, 4096, 5],
        [500 * MiB, SECTOR, 6],
        [200 * MiB, 65536, 0],
      ],
    });
  }
  expect(byLibvhdi(checks)).toBe("");

  const [parent, child] = [path(), path()];
  fs.writeFileSync(parent, dataFile("dfvfs-image.vhd"));
  fs.writeFileSync(child, dataFile("dfvfs-image-differential.vhd"));
  const disk = await openChild(new FileStore(child, { readOnly: true }), () => open(parent, { readOnly: true }), true);
  const bytes = await readBytes(disk, 0, disk.size);
  const runs: ByteCheck["runs"] = [];
  for (let at = 0; at < bytes.length; at++) {
    const last = runs[runs.length - 1];
    if (last && last[2] === bytes[at]) last[1]++;
    else runs.push([at, 1, bytes[at]]);
  }
  expect(byLibvhdi([{ chain: [child, parent], size: disk.size, runs }])).toBe("");
});
