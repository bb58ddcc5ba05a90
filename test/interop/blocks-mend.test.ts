// Tables that are damaged and mended, judged by QEMU: what it finds before and after, and what it reads then.
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { expect } from "vitest";
import { writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk } from "../../src/host/block/open.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { ours, qemuImg, scratch, theirs } from "../support/img.ts";
import { peerTest } from "../support/peers.ts";

const path = scratch();
const BLOCK = 2 ** 20;
const peer = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);

for (const [format, table, first] of [
  ["parallels", 64, 1],
  ["vdi", 512, 0],
] as const) {
  /** Blocks 0, 1, 3 and 5 have data, and follow one another; then blocks are put at other places. */
  async function damaged(name: string, places: Record<number, number>, cut = 0): Promise<string> {
    const file = path(`${name}.${format}`);
    const store = new FileStore(file, { create: true, overwrite: true });
    const disk = await createDisk(store, { format, size: 8 * BLOCK });
    for (const block of [0, 1, 3, 5]) await writeBytes(disk, block * BLOCK, new Uint8Array(BLOCK).fill(0x10 + block));
    await disk.close();
    const bytes = readFileSync(file);
    for (const [block, place] of Object.entries(places)) bytes.writeUInt32LE(first + place, table + Number(block) * 4);
    writeFileSync(file, bytes.subarray(0, bytes.length - cut));
    return file;
  }
  function expectFills(file: string, fills: number[], name: string): void {
    const raw = path("raw");
    qemuImg("convert", "-f", format, "-O", "raw", file, raw);
    const bytes = readFileSync(raw);
    const wanted = Buffer.concat(fills.map((fill) => Buffer.alloc(BLOCK, fill)));
    expect([name, bytes.equals(wanted)]).toEqual([name, true]);
  }

  peer(`${format}: what is mended QEMU finds sound, and reads as we do`, async () => {
    for (const [name, places, fills] of [
      ["behind the end", { 1: 4000 }, [0x10, 0, 0, 0x13, 0, 0x15, 0, 0]],
      ["shared", { 2: 0, 6: 2, 7: 2 }, [0x10, 0x11, 0x10, 0x13, 0, 0x15, 0x13, 0x13]],
      ["both", { 0: 3, 4: 0x7ffffff, 7: 1 }, [0x15, 0x11, 0, 0x13, 0, 0x15, 0, 0x11]],
    ] as [string, Record<number, number>, number[]][]) {
      const file = await damaged(name, places);
      const repaired = await ours("check", "-r", "all", "--output", "json", file);
      expect([name, repaired.code, repaired.stderr]).toEqual([name, 0, ""]);
      expect(JSON.parse(repaired.stdout)["corruptions-fixed"]).toBeGreaterThan(0);
      const { code, stdout } = theirs("check", "-f", format, file);
      expect([name, code, stdout]).toEqual([name, 0, expect.stringContaining("No errors were found")]);
      expectFills(file, fills, name);
    }
  });

  peer(`${format}: of a block that is cut off we keep more than QEMU may`, async () => {
    const file = await damaged("cut", {}, BLOCK / 2);
    expect((await ours("check", file)).code).toBe(2);
    expect((await ours("check", "-r", "all", file)).code).toBe(0);
    expect(theirs("check", "-f", format, file)).toMatchObject({ code: 0 });
    const raw = path("raw");
    qemuImg("convert", "-f", format, "-O", "raw", file, raw);
    const bytes = readFileSync(raw).subarray(5 * BLOCK, 6 * BLOCK);
    expect(bytes.equals(Buffer.alloc(BLOCK).fill(0x15, 0, BLOCK / 2))).toBe(true);
  });
}

peer("parallels: an entry behind the end is what QEMU's own repair makes of it", async () => {
  const store = path("theirs.parallels");
  await (await createDisk(new FileStore(store, { create: true }), { format: "parallels", size: 8 * BLOCK })).close();
  const bytes = Buffer.concat([readFileSync(store), Buffer.alloc(2 * BLOCK)]).subarray(0, 2 * BLOCK);
  bytes.fill(0x77, BLOCK);
  bytes.writeUInt32LE(1, 64);
  bytes.writeUInt32LE(4000, 68);
  writeFileSync(store, bytes);
  const mine = path("ours.parallels");
  writeFileSync(mine, bytes);
  expect(theirs("check", "-f", "parallels", "-r", "all", store).code).toBe(0);
  expect((await ours("check", "-r", "all", mine)).code).toBe(0);
  // Not byte for byte: QEMU 7.2 enlarges the file up to where the entry pointed.
  expect(theirs("compare", "-f", "parallels", "-F", "parallels", store, mine)).toMatchObject({ code: 0 });
  expect(readFileSync(mine).readUInt32LE(68)).toBe(0);
  expect(statSync(mine).size).toBe(2 * BLOCK);
});
