// Commands that give sectors: READ, SEEK, READ CD in all its selections, capacity.
import { expect, test } from "vitest";
import { PacketOp } from "../../../../../assembly/spec/mmc.ts";
import { Status } from "../../../../../src/core/block.ts";
import { run } from "../../../../../src/core/flow.ts";
import type { Disc } from "../../../../../src/host/media/disc.ts";
import { cdFromBlock } from "../../../../../src/host/media/image.ts";
import { readRaw } from "../../../../../src/host/media/read.ts";
import { RAW } from "../../../../../src/host/media/sector.ts";
import { subchannelQ, subchannelRaw } from "../../../../../src/host/media/subchannel.ts";
import { be, cdb, number, PacketBench } from "../../../../support/cd.ts";
import { cueDisc, sectors } from "../../../../support/disc.ts";
import { FakeBlock } from "../../../../support/fake-block.ts";
import { SparseBlock } from "../../../../support/sparse-block.ts";

function iso(count = 64): { disc: Disc; block: FakeBlock } {
  const block = new FakeBlock(count * 2048);
  block.bytes.set(sectors(count, 2048));
  return { disc: cdFromBlock(block), block };
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** Mode 1, mode 2 form 1, form 2 and no form, audio: ten sectors each. */
function everything(): Disc {
  const mode2 = (marks: number[]) => {
    const bytes = sectors(10, 2336, marks[0]);
    for (let i = 0; i < 10; i++) bytes.set(marks, i * 2336);
    return bytes;
  };
  const sheet = `FILE a BINARY
TRACK 01 MODE1/2048
INDEX 01 00:00:00
FILE b BINARY
TRACK 02 MODE2/2336
INDEX 01 00:00:00
FILE c BINARY
TRACK 03 MODE2/2336
INDEX 01 00:00:00
FILE d BINARY
TRACK 04 MODE2/2336
INDEX 01 00:00:00
FILE e BINARY
TRACK 05 AUDIO
INDEX 01 00:00:00`;
  return cueDisc(sheet, {
    a: sectors(10, 2048),
    b: mode2([1, 2, 8, 4, 1, 2, 8, 4]),
    c: mode2([1, 2, 0x28, 4, 1, 2, 0x28, 4]),
    d: mode2([1, 2, 3, 4, 5, 6, 7, 8]),
    e: sectors(10, RAW),
  });
}

test("READ (10) and READ (12)", async () => {
  const { disc, block } = iso();
  const bench = new PacketBench(disc);
  const read10 = (lba: number, count: number) => bench.run(cdb(PacketOp.Read10, 0, ...be(lba, 4), 0, ...be(count, 2)));
  const read12 = (lba: number, count: number) => bench.run(cdb(PacketOp.Read12, 0, ...be(lba, 4), ...be(count, 4)));
  for (const [lba, count] of [
    [0, 1],
    [5, 40],
    [63, 1],
    [0, 64],
  ]) {
    const want = block.bytes.slice(lba * 2048, (lba + count) * 2048);
    expect(same((await read10(lba, count)).data, want)).toBe(true);
    expect(same((await read12(lba, count)).data, want)).toBe(true);
  }
  expect(await read10(1, 0)).toEqual({ data: new Uint8Array(0), sense: undefined });
  for (const [lba, count] of [
    [64, 1],
    [63, 2],
    // CVE-2020-29443: an address of all ones was taken for "no address".
    [0xffffffff, 1],
    [0xffffffff, 0xffff],
    [0x80000000, 1],
  ]) {
    expect((await read10(lba, count)).sense).toBe("5/2100");
    expect((await read12(lba, count)).sense).toBe("5/2100");
  }
  expect((await read12(1, 0xffffffff)).sense).toBe("5/2100");
});

test("data in pieces that do not end with a sector", async () => {
  const { disc, block } = iso();
  const bench = new PacketBench(disc);
  for (const piece of [1, 7, 2046, 2048, 2050, 5000, 65534]) {
    const { data } = await bench.run(cdb(PacketOp.Read10, 0, ...be(3, 4), 0, ...be(9, 2)), undefined, piece);
    expect(same(data, block.bytes.slice(3 * 2048, 12 * 2048))).toBe(true);
  }
});

test("READ moves no audio, and says where it starts", async () => {
  const bench = new PacketBench(everything());
  expect((await bench.run(cdb(PacketOp.Read10, 0, ...be(40, 4), 0, 0, 1))).sense).toBe("5/6400");
  expect((await bench.run(cdb(PacketOp.Read10, 0, ...be(9, 4), 0, 0, 3))).sense).toBeUndefined();
  const { error } = await bench.raw(cdb(PacketOp.Read10, 0, ...be(18, 4), 0, 0, 4));
  expect(error).toBe(0x50);
  const sense = await bench.data(PacketOp.RequestSense, 0, 0, 0, 18);
  expect([sense[0], sense[2], ...sense.slice(3, 7), sense[12]]).toEqual([0xf0, 5, 0, 0, 0, 20, 0x64]);
});

test("errors of the image are told by cause, with the block", async () => {
  const { disc, block } = iso();
  const bench = new PacketBench(disc);
  const cases = [
    [Status.Media, 3, 0x11],
    [Status.Crc, 4, 0x08],
    [Status.Io, 4, 0x44],
  ] as const;
  for (const [status, key, asc] of cases) {
    block.fault = ({ offset, length }) => (offset <= 20 * 2048 && offset + length > 20 * 2048 ? status : Status.Ok);
    expect((await bench.raw(cdb(PacketOp.Read10, 0, ...be(10, 4), 0, 0, 20))).error).toBe(key << 4);
    const sense = await bench.data(PacketOp.RequestSense, 0, 0, 0, 18);
    expect([sense[0], sense[2], number(Uint8Array.from(sense), 3, 4), sense[12]]).toEqual([0xf0, key, 20, asc]);
    expect((await bench.run(cdb(PacketOp.Read10, 0, ...be(0, 4), 0, 0, 20))).sense).toBeUndefined();
  }
  block.fault = () => Status.Ok;
  block.close();
  expect((await bench.run(cdb(PacketOp.Read10, 0, 0, 0, 0, 0, 0, 0, 1))).sense).toBe("2/3a00");
});

test("SEEK, READ CAPACITY, READ FORMAT CAPACITIES, SET CD SPEED, SET READ AHEAD", async () => {
  const bench = new PacketBench(iso().disc);
  expect(await bench.data(PacketOp.ReadCapacity)).toEqual([0, 0, 0, 63, 0, 0, 8, 0]);
  expect(await bench.data(PacketOp.ReadFormatCapacities, 0, 0, 0, 0, 0, 0, 0, 255)).toEqual([
    0, 0, 0, 8, 0, 0, 0, 64, 2, 0, 8, 0,
  ]);
  expect(await bench.data(PacketOp.ReadFormatCapacities, 0, 0, 0, 0, 0, 0, 0, 5)).toEqual([0, 0, 0, 8, 0]);
  expect((await bench.run(cdb(PacketOp.Seek10, 0, ...be(63, 4)))).sense).toBeUndefined();
  expect(await bench.data(PacketOp.MechanismStatus, 0, 0, 0, 0, 0, 0, 0, 0, 8)).toEqual([0, 0, 0, 0, 63, 1, 0, 0]);
  expect((await bench.run(cdb(PacketOp.Seek10, 0, ...be(64, 4)))).sense).toBe("5/2100");
  await bench.data(PacketOp.SetCdSpeed, 0, ...be(706, 2));
  const page = await bench.data(PacketOp.ModeSense10, 0, 0x2a, 0, 0, 0, 0, 0, 255);
  expect(page.slice(8 + 14, 8 + 16)).toEqual(be(706, 2));
  expect((await bench.run(cdb(PacketOp.SetReadAhead, 0, ...be(1, 4), ...be(63, 4)))).sense).toBeUndefined();
  expect((await bench.run(cdb(PacketOp.SetReadAhead, 0, ...be(1, 4), ...be(64, 4)))).sense).toBe("5/2100");
  const empty = new PacketBench(null);
  expect(await empty.data(PacketOp.ReadFormatCapacities, 0, 0, 0, 0, 0, 0, 0, 255)).toEqual([
    0, 0, 0, 8, 255, 255, 255, 255, 3, 0, 8, 0,
  ]);
});

test("a DVD larger than 4 GiB", async () => {
  const block = new SparseBlock(5 * 2 ** 30);
  const bench = new PacketBench(cdFromBlock(block));
  expect(await bench.data(PacketOp.ReadCapacity)).toEqual([...be(2621439, 4), 0, 0, 8, 0]);
  expect((await bench.run(cdb(PacketOp.Read10, 0, ...be(2621439, 4), 0, 0, 1))).data.length).toBe(2048);
  expect((await bench.run(cdb(PacketOp.Read10, 0, ...be(2621440, 4), 0, 0, 1))).sense).toBe("5/2100");
  expect((await bench.run(cdb(PacketOp.ReadCd, 0, 0, 0, 0, 0, 0, 0, 1, 0x10))).data.length).toBe(2048);
  expect((await bench.run(cdb(PacketOp.ReadCd, 0, 0, 0, 0, 0, 0, 0, 1, 0xf8))).sense).toBe("5/3002");
});

/** MMC-3, table "number of bytes returned based on data selection field": by type, in the order of `everything`. */
const BYTES: Record<number, (number | null)[]> = {
  //        mode 1, form 1, form 2, no form, audio; null: illegal
  16: [2048, 2048, 2328, 2336, 2352],
  24: [2336, 2328, 2328, 2336, 2352],
  32: [4, 4, 4, 4, 2352],
  48: [2052, null, null, 2340, 2352],
  56: [2340, null, null, 2340, 2352],
  64: [0, 8, 8, 0, 2352],
  80: [2048, 2056, 2336, 2336, 2352],
  88: [2336, 2336, 2336, 2336, 2352],
  96: [4, 12, 12, 4, 2352],
  112: [2052, 2060, 2340, 2340, 2352],
  120: [2340, 2340, 2340, 2340, 2352],
  128: [12, 12, 12, 12, 2352],
  160: [16, 16, 16, 16, 2352],
  176: [2064, null, null, 2352, 2352],
  184: [2352, null, null, 2352, 2352],
  224: [16, 24, 24, 16, 2352],
  240: [2064, 2072, 2352, 2352, 2352],
  248: [2352, 2352, 2352, 2352, 2352],
};

test("READ CD: every main channel selection of every sector type", async () => {
  const disc = everything();
  const bench = new PacketBench(disc);
  for (let flags = 0; flags < 256; flags += 8) {
    for (let type = 0; type < 5; type++) {
      const lba = type * 10 + 3;
      const { data, sense } = await bench.run(cdb(PacketOp.ReadCd, 0, ...be(lba, 4), 0, 0, 2, flags));
      const want = flags === 0 ? 0 : (BYTES[flags]?.[type] ?? null);
      if (want === null) expect([flags, type, sense]).toEqual([flags, type, "5/2400"]);
      else expect([flags, type, sense, data.length]).toEqual([flags, type, undefined, want * 2]);
      if (!want) continue;
      // Whatever is given is one run of the whole sector.
      const whole = run(readRaw(disc, lba, 1)) as Uint8Array;
      const from =
        type === 4 || flags & 0x80
          ? 0
          : flags & 0x20
            ? 12
            : flags & 0x40 && (type === 1 || type === 2)
              ? 16
              : type === 1 || type === 2
                ? 24
                : 16;
      expect(data.slice(0, want)).toEqual(whole.slice(from, from + want));
    }
  }
});

test("READ CD: expected sector types", async () => {
  const bench = new PacketBench(everything());
  const order = [2, 4, 5, 3, 1];
  for (let expected = 0; expected < 8; expected++) {
    for (let type = 0; type < 5; type++) {
      const { sense } = await bench.run(cdb(PacketOp.ReadCd, expected << 2, ...be(type * 10, 4), 0, 0, 1, 0xf8));
      const want = expected > 5 ? "5/2400" : expected === 0 || order[type] === expected ? undefined : "5/6400";
      expect([expected, type, sense]).toEqual([expected, type, want]);
    }
  }
  // Any type: up to where it changes.
  expect((await bench.run(cdb(PacketOp.ReadCd, 0, ...be(38, 4), 0, 0, 4, 0xf8))).sense).toBe("5/6400");
});

test("READ CD: error pointers and sub-channels", async () => {
  const disc = everything();
  const bench = new PacketBench(disc);
  const read = (flags: number, sub: number) => bench.run(cdb(PacketOp.ReadCd, 0, ...be(45, 4), 0, 0, 2, flags, sub));
  expect((await read(0xf8 | 2, 0)).data.length).toBe(2 * (RAW + 294));
  expect((await read(0xf8 | 4, 0)).data.length).toBe(2 * (RAW + 296));
  expect((await read(0xf8 | 6, 0)).sense).toBe("5/2400");
  const { data } = await read(0xfa, 2);
  expect(data.length).toBe(2 * (RAW + 294 + 16));
  expect(data.slice(RAW, RAW + 294).every((byte) => byte === 0)).toBe(true);
  expect(data.slice(RAW + 294, RAW + 306)).toEqual(subchannelQ(disc, 45));
  expect((await read(0, 1)).data).toEqual(Uint8Array.from([...subchannelRaw(disc, 45), ...subchannelRaw(disc, 46)]));
  for (const sub of [3, 4, 5, 7]) expect((await read(0xf8, sub)).sense).toBe("5/2400");
});

test("READ CD MSF", async () => {
  const disc = everything();
  const bench = new PacketBench(disc);
  const read = (...msf: number[]) => bench.run(cdb(PacketOp.ReadCdMsf, 0, 0, ...msf, 0xf8));
  expect((await read(0, 2, 3, 0, 2, 5)).data).toEqual(run(readRaw(disc, 3, 2)));
  expect(await read(0, 2, 3, 0, 2, 3)).toEqual({ data: new Uint8Array(0), sense: undefined });
  expect((await read(0, 2, 5, 0, 2, 3)).sense).toBe("5/2400");
  expect((await read(0, 60, 0, 1, 2, 3)).sense).toBe("5/2400");
  expect((await read(0, 2, 75, 1, 2, 3)).sense).toBe("5/2400");
  expect((await read(0, 1, 0, 0, 2, 3)).sense).toBe("5/2100");
  expect((await read(0, 2, 0, 0, 2, 51)).sense).toBe("5/2100");
  // CVE-2020-29443's kind: nothing of the end of the range is trusted.
  expect((await bench.run(cdb(PacketOp.ReadCd, 0, 255, 255, 255, 255, 0, 0, 1, 0xf8))).sense).toBe("5/2100");
});
