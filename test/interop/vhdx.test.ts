import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import type { Engine } from "../../src/host/block/engine.ts";
import { createDisk, type Disk, type OpenDiskOptions, openDisk } from "../../src/host/block/open.ts";
import { seal } from "../../src/host/format/vhdx/crc32c.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { peerTest } from "../support/peers.ts";
import { afterCut, RecordingStore } from "../support/power.ts";
import { Random } from "../support/random.ts";
import { contentOf, randomFrom } from "../support/stores.ts";

const MiB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), "vhdx-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const fresh = (extension = "vhdx") => join(folder, `${++files}.${extension}`);

const run = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: "utf8" });
const qemu = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body, 120_000);
const open = (path: string, options: OpenDiskOptions = {}) =>
  openDisk(new FileStore(path, { readOnly: options.readOnly }), options);

/** The guest's bytes as QEMU sees them. */
function byQemu(path: string): Uint8Array {
  const raw = fresh("raw");
  run("qemu-img", "convert", "-f", "vhdx", "-O", "raw", path, raw);
  const bytes = new Uint8Array(readFileSync(raw));
  rmSync(raw);
  return bytes;
}

async function byUs(path: string): Promise<Uint8Array> {
  const disk = await open(path, { readOnly: true });
  const bytes = await readBytes(disk, 0, disk.size);
  await disk.close();
  return bytes;
}

function same(a: Uint8Array, b: Uint8Array): void {
  expect(a.length).toBe(b.length);
  expect(Buffer.compare(a, b)).toBe(0);
}

const accepted = (path: string) => expect(run("qemu-img", "check", "-f", "vhdx", path)).toMatch(/No errors/);

for (const subformat of ["dynamic", "fixed"]) {
  for (const [blockSize, size] of [
    [1, 5 * MiB + 1536],
    [8, 20 * MiB],
    [32, 34 * MiB + 512],
    [256, 20 * MiB],
  ]) {
    const label = `${subformat}, blocks of ${blockSize} MiB, ${size} bytes`;

    qemu(`an image made and written by QEMU is read, and accepted after our writes: ${label}`, async () => {
      const path = fresh();
      const options = `subformat=${subformat},block_size=${blockSize * MiB}`;
      run("qemu-img", "create", "-q", "-f", "vhdx", "-o", options, path, String(size));
      run("qemu-io", "-f", "vhdx", "-c", "write -P 0x11 64k 1M", "-c", `write -P 0x22 ${size - 512} 512`, path);
      same(await byUs(path), byQemu(path));
      const disk = await open(path);
      expect(disk.size).toBe(size);
      expect(disk.describe()).toMatchObject({ subformat, blockSize: blockSize * MiB });
      expect(disk.describe().creator).toMatch(/QEMU/);
      const expected = await readBytes(disk, 0, size);
      for (const [offset, length, value] of [
        [0, 4096, 0x33],
        [MiB - 512, 1024, 0x44],
        [3 * MiB, 2 * MiB, 0x55],
      ]) {
        await writeBytes(disk, offset, new Uint8Array(length).fill(value));
        expected.fill(value, offset, offset + length);
      }
      await writeZeroes(disk, 3 * MiB + 4096, MiB);
      expected.fill(0, 3 * MiB + 4096, 4 * MiB + 4096);
      await disk.close();
      accepted(path);
      same(byQemu(path), expected);
    });

    qemu(`an image of ours is accepted, read and written by QEMU: ${label}`, async () => {
      const path = fresh();
      const store = new FileStore(path, { create: true });
      const disk = await createDisk(store, { format: "vhdx", size, subformat, blockSize: blockSize * MiB });
      accepted(path);
      await writeBytes(disk, MiB - 512, new Uint8Array(4096).fill(0x66));
      await writeBytes(disk, size - 512, new Uint8Array(512).fill(0x77));
      await disk.close();
      accepted(path);
      expect(JSON.parse(run("qemu-img", "info", "--output=json", path))).toMatchObject({
        format: "vhdx",
        "virtual-size": size,
        "cluster-size": blockSize * MiB,
      });
      same(byQemu(path), await byUs(path));
      run("qemu-io", "-f", "vhdx", "-c", "write -P 0x11 2M 1M", "-c", "write -P 0x12 4k 4k", path);
      accepted(path);
      const after = await byUs(path);
      same(byQemu(path), after);
      expect([after[2 * MiB], after[4096], after[MiB], after[size - 1]]).toEqual([0x11, 0x12, 0x66, 0x77]);
    });
  }
}

qemu("every log size and zero state that QEMU offers is read, written, and accepted afterwards", async () => {
  for (const options of ["log_size=1M", "log_size=7M", "block_state_zero=off", "block_state_zero=on,block_size=2M"]) {
    const path = fresh();
    run("qemu-img", "create", "-q", "-f", "vhdx", "-o", options, path, "70M");
    run("qemu-io", "-f", "vhdx", "-c", "write -P 0x11 1M 9M", "-c", "write -z 4M 4M", path);
    const expected = byQemu(path);
    same(await byUs(path), expected);
    const disk = await open(path);
    await writeBytes(disk, 66 * MiB, new Uint8Array(4096).fill(0x33));
    await writeZeroes(disk, MiB, MiB);
    await disk.resize(67 * MiB);
    await disk.close();
    expected.fill(0x33, 66 * MiB, 66 * MiB + 4096).fill(0, MiB, 2 * MiB);
    accepted(path);
    same(byQemu(path), expected.subarray(0, 67 * MiB));
  }
});

qemu("turns of ours and of QEMU on one image leave what a model says", async () => {
  const size = 24 * MiB + 512;
  for (let seed = 0; seed < 6; seed++) {
    const random = new Random(seed);
    const path = fresh();
    const options = { subformat: seed % 3 === 0 ? "fixed" : "dynamic", blockSize: MiB };
    await (await createDisk(new FileStore(path, { create: true }), { format: "vhdx", size, ...options })).close();
    const model = new Uint8Array(size);
    for (let turn = 0; turn < 6; turn++) {
      const commands: string[] = [];
      const disk = turn % 2 ? undefined : await open(path);
      for (let i = 0; i < 6; i++) {
        const offset = random.below(size / 512) * 512;
        const length = Math.min(size - offset, (1 + random.below(random.pick([8, 4000]))) * 512);
        const value = random.below(4) === 0 ? 0 : 1 + random.below(255);
        model.fill(value, offset, offset + length);
        if (!disk)
          commands.push("-c", value ? `write -P ${value} ${offset} ${length}` : `write -z ${offset} ${length}`);
        else if (value) await writeBytes(disk, offset, new Uint8Array(length).fill(value));
        else if (random.below(2)) await writeZeroes(disk, offset, length);
        else {
          // A discard may leave what was there.
          await discard(disk, offset, length);
          model.set(await readBytes(disk, offset, length), offset);
        }
      }
      if (commands.length > 0) run("qemu-io", "-f", "vhdx", ...commands, path);
      if (disk) await disk.close();
      accepted(path);
      same(byQemu(path), model);
    }
    same(await byUs(path), model);
  }
});

/** Makes the newest entry in the log of a closed image one that must be replayed, and undoes what it did. */
function revive(path: string): void {
  const bytes = new Uint8Array(readFileSync(path));
  const view = new DataView(bytes.buffer);
  const header = view.getBigUint64(65536 + 8, true) > view.getBigUint64(131072 + 8, true) ? 65536 : 131072;
  const log = Number(view.getBigUint64(header + 72, true));
  let newest = -1;
  let sequence = 0n;
  for (let at = log; at < log + MiB; at += 4096) {
    if (view.getUint32(at, true) !== 0x65676f6c) continue; // "loge"
    if (view.getBigUint64(at + 16, true) > sequence) sequence = view.getBigUint64((newest = at) + 16, true);
  }
  bytes.copyWithin(header + 48, newest + 32, newest + 48);
  seal(bytes.subarray(header, header + 4096), "head");
  // What the entry says of the table is the only trace of it.
  const descriptor = newest + 64;
  const table = Number(view.getBigUint64(descriptor + 16, true));
  bytes.fill(0, table, table + 4096);
  writeFileSync(path, bytes);
}

qemu("a log entry that QEMU wrote is replayed, in memory and on disk", async () => {
  const path = fresh();
  run("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", path, "20M");
  const writes = [1, 3, 5, 7].flatMap((block) => ["-c", `write -P ${block} ${block}M 64k`]);
  run("qemu-io", "-f", "vhdx", ...writes, path);
  const expected = byQemu(path);
  revive(path);
  same(await byUs(path), expected);
  const disk = await open(path);
  expect(disk.describe().log).toMatchObject({ replayedEntries: 1 });
  await disk.close();
  accepted(path);
  same(byQemu(path), expected);
});

qemu("what a power cut leaves of our image QEMU repairs to what we replay", async () => {
  const random = new Random(7);
  const store = new RecordingStore();
  const disk = await createDisk(store, { format: "vhdx", size: 16 * MiB, blockSize: MiB });
  const start = store.steps.length;
  for (let i = 0; i < 12; i++) {
    const offset = random.below(16 * 256) * 4096;
    await writeBytes(disk, offset, new Uint8Array(4096).fill(i + 1));
    if (i % 3 === 0) await writeZeroes(disk, random.below(16) * MiB, MiB);
    if (i % 2 === 0) await flush(disk);
    if (i === 7) await disk.resize(9 * MiB + 512);
    if (i === 8) await disk.resize(16 * MiB);
  }
  await (disk as Disk & Engine).exclusive((image) => image.empty!());
  await writeBytes(disk, MiB, new Uint8Array(4096).fill(99));
  await disk.close();
  const uniform = randomFrom(7);
  let dirty = 0;
  for (let count = start; count <= store.steps.length; count += process.env.PARAVANE_NIGHTLY ? 1 : 6) {
    for (const torn of [undefined, uniform]) {
      const path = fresh();
      writeFileSync(path, contentOf(afterCut(store.steps, count, torn)));
      const ours = await byUs(path);
      const repair = run("qemu-img", "check", "-r", "all", "-f", "vhdx", path);
      if (/repaired/i.test(repair)) dirty++;
      accepted(path);
      same(byQemu(path), ours);
      rmSync(path);
    }
  }
  expect(dirty).toBeGreaterThan(0);
});

peerTest("vhdiinfo", "libvhdi-utils", "libvhdi knows our disks, and a differencing one's parent", async () => {
  const size = 8 * MiB;
  const parentPath = fresh();
  const parent = await createDisk(new FileStore(parentPath, { create: true }), { format: "vhdx", size });
  await writeBytes(parent, 0, new Uint8Array(4096).fill(0x11));
  const { dataWriteGuid } = parent.describe();
  await parent.close();
  expect(run("vhdiinfo", parentPath)).toMatch(/Dynamic/);

  const path = fresh("avhdx");
  const child = await createDisk(new FileStore(path, { create: true }), {
    format: "vhdx",
    size,
    parent: { identity: String(dataWriteGuid), path: ".\\1.vhdx", absolutePath: "C:\\disks\\1.vhdx" },
    backing: await open(parentPath, { readOnly: true }),
  });
  await writeBytes(child, 512, new Uint8Array(512).fill(0x22));
  expect([...(await readBytes(child, 0, 1025))].filter((_, i) => i % 512 === 0)).toEqual([0x11, 0x22, 0x11]);
  await child.close();
  const info = run("vhdiinfo", path);
  expect(info).toMatch(/Differential/);
  expect(info).toContain(String(dataWriteGuid));
});
