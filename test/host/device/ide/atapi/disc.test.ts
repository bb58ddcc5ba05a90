// What is on the disc: READ TOC in all formats, disc and track information, DVD structures, configuration, keys.
import { expect, test } from "vitest";
import { PacketOp } from "../../../../../assembly/spec/mmc.ts";
import { cdFromBlock } from "../../../../../src/host/media/image.ts";
import { crcQ } from "../../../../../src/host/media/subchannel.ts";
import { be, cdb, PacketBench } from "../../../../support/cd.ts";
import { cueDisc, sectors } from "../../../../support/disc.ts";
import { FakeBlock } from "../../../../support/fake-block.ts";
import { SparseBlock } from "../../../../support/sparse-block.ts";

const iso = () => cdFromBlock(new FakeBlock(64 * 2048));
const dvd = (bytes = 4_000_000_000) => cdFromBlock(new SparseBlock(Math.ceil(bytes / 512) * 512));

/** Two audio tracks, a data track in a second session. */
const SHEET = `CATALOG 1234567890123
TITLE "Songs"
PERFORMER "Nobody"
FILE a BINARY
TRACK 01 AUDIO
  TITLE "One"
  INDEX 01 00:00:00
TRACK 02 AUDIO
  TITLE "A rather long name"
  FLAGS DCP
  INDEX 01 00:01:00
REM SESSION 02
FILE b BINARY
TRACK 03 MODE2/2336
  INDEX 01 00:00:00`;
const two = () => cueDisc(SHEET, { a: sectors(200, 2352), b: new Uint8Array(20 * 2336) });
/** Session 2 starts after a lead-out of 90 seconds, a lead-in of 60 and a pre-gap of 2. */
const THIRD = 200 + 11400;

test("READ TOC, format 0: as addresses and as times", async () => {
  const bench = new PacketBench(two());
  const toc = (msf: number, track = 0, allocation = 255) =>
    bench.run(cdb(PacketOp.ReadToc, msf, 0, 0, 0, 0, track, ...be(allocation, 2)));
  expect([...(await toc(0)).data]).toEqual([
    ...[0, 34, 1, 3],
    ...[0, 0x10, 1, 0, 0, 0, 0, 0],
    ...[0, 0x12, 2, 0, ...be(75, 4)],
    ...[0, 0x14, 3, 0, ...be(THIRD, 4)],
    ...[0, 0x14, 0xaa, 0, ...be(THIRD + 20, 4)],
  ]);
  expect([...(await toc(2)).data].slice(4, 20)).toEqual([0, 0x10, 1, 0, 0, 0, 2, 0, 0, 0x12, 2, 0, 0, 0, 3, 0]);
  expect([...(await toc(0, 3)).data].slice(0, 7)).toEqual([0, 18, 1, 3, 0, 0x14, 3]);
  expect([...(await toc(0, 0xaa)).data].slice(0, 7)).toEqual([0, 10, 1, 3, 0, 0x14, 0xaa]);
  expect((await toc(0, 4)).sense).toBe("5/2400");
  expect((await toc(0, 0, 6)).data.length).toBe(6);
  // An ISO image, byte for byte as QEMU's cdrom_read_toc has it.
  const plain = new PacketBench(iso());
  expect(await plain.data(PacketOp.ReadToc, 0, 0, 0, 0, 0, 0, 0, 255)).toEqual([
    ...[0, 18, 1, 1],
    ...[0, 0x14, 1, 0, 0, 0, 0, 0],
    ...[0, 0x14, 0xaa, 0, 0, 0, 0, 64],
  ]);
});

test("READ TOC, formats 1 to 5, also where SFF-8020i has the format", async () => {
  const bench = new PacketBench(two());
  const format = (number: number) => bench.run(cdb(PacketOp.ReadToc, 0, number, 0, 0, 0, 0, 4, 0));
  expect([...(await format(1)).data]).toEqual([0, 10, 1, 2, 0, 0x14, 3, 0, ...be(THIRD, 4)]);
  expect(await bench.data(PacketOp.ReadToc, 0, 0, 0, 0, 0, 0, 0, 255, 0x40)).toEqual([...(await format(1)).data]);
  const full = [...(await format(2)).data];
  const entries = Array.from({ length: (full.length - 4) / 11 }, (_, i) => full.slice(4 + 11 * i, 15 + 11 * i));
  expect([full.slice(0, 4), entries]).toEqual([
    [0, full.length - 2, 1, 2],
    [
      [1, 0x10, 0, 0xa0, 0, 0, 0, 0, 1, 0, 0],
      [1, 0x12, 0, 0xa1, 0, 0, 0, 0, 2, 0, 0],
      [1, 0x12, 0, 0xa2, 0, 0, 0, 0, 0, 4, 50],
      [1, 0x10, 0, 1, 0, 0, 0, 0, 0, 2, 0],
      [1, 0x12, 0, 2, 0, 0, 0, 0, 0, 3, 0],
      [2, 0x14, 0, 0xa0, 0, 0, 0, 0, 3, 0x20, 0],
      [2, 0x14, 0, 0xa1, 0, 0, 0, 0, 3, 0, 0],
      [2, 0x14, 0, 0xa2, 0, 0, 0, 0, 2, 36, 70],
      [2, 0x14, 0, 3, 0, 0, 0, 0, 2, 36, 50],
    ],
  ]);
  expect([...(await format(3)).data]).toEqual([0, 2, 0, 0]);
  expect((await format(4)).sense).toBe("5/2400");
  expect((await format(6)).sense).toBe("5/2400");
  const text = (await format(5)).data;
  const packs = Array.from({ length: (text.length - 4) / 18 }, (_, i) => text.slice(4 + 18 * i, 22 + 18 * i));
  for (const [i, pack] of packs.entries()) expect([pack[2], (pack[16] << 8) | pack[17]]).toEqual([i, crcQ(pack, 16)]);
  const titles = packs.filter((pack) => pack[0] === 0x80).flatMap((pack) => [...pack.slice(4, 16)]);
  expect(
    String.fromCharCode(...titles)
      .split("\0")
      .slice(0, 4),
  ).toEqual(["Songs", "One", "A rather long name", ""]);
  // The second pack starts with the third character of the second track's title.
  expect([packs[1][1], packs[1][3]]).toEqual([2, 2]);
  expect(packs.slice(-3).map((pack) => pack[0])).toEqual([0x8f, 0x8f, 0x8f]);
  expect([...(await new PacketBench(iso()).data(PacketOp.ReadToc, 0, 5, 0, 0, 0, 0, 0, 255))]).toEqual([0, 2, 0, 0]);
});

test("a DVD shows one track", async () => {
  const bench = new PacketBench(dvd());
  const toc = await bench.data(PacketOp.ReadToc, 2, 0, 0, 0, 0, 0, 0, 255);
  // 4 GB are 434 minutes, and time goes up to 255.
  expect(toc.slice(12)).toEqual([0, 0x14, 0xaa, 0, 0, 255, 59, 74]);
  for (const format of [2, 3, 4, 5]) expect((await bench.run(cdb(PacketOp.ReadToc, 0, format))).sense).toBe("5/2400");
});

test("READ DISC INFORMATION and READ TRACK INFORMATION", async () => {
  const bench = new PacketBench(two());
  const info = await bench.data(PacketOp.ReadDiscInformation, 0, 0, 0, 0, 0, 0, 0, 255);
  expect([info.length, info.slice(0, 9)]).toEqual([34, [0, 32, 0x0e, 1, 2, 3, 3, 0x20, 0x20]]);
  expect((await bench.run(cdb(PacketOp.ReadDiscInformation, 1))).sense).toBe("5/2400");
  const track = (kind: number, value: number) =>
    bench.run(cdb(PacketOp.ReadTrackInformation, kind, ...be(value, 4), 0, 0, 255));
  const second = (await track(1, 2)).data;
  expect([...second]).toEqual([
    ...[0, 34, 2, 1, 0, 2, 0x0f, 2],
    ...[...be(75, 4), ...be(0, 12), ...be(125, 4), ...be(199, 4), 0, 0, 0, 0],
  ]);
  expect((await track(0, 100)).data).toEqual(second);
  expect([...(await track(2, 2)).data.slice(2, 7)]).toEqual([3, 2, 0, 4, 2]);
  expect((await track(0, 5000)).sense).toBe("5/2100");
  expect((await track(1, 9)).sense).toBe("5/2400");
  expect((await track(2, 3)).sense).toBe("5/2400");
  expect((await track(3, 0)).sense).toBe("5/2400");
});

test("GET CONFIGURATION", async () => {
  const features = (bytes: number[]) => {
    const list: [code: number, current: boolean][] = [];
    for (let at = 8; at < bytes.length; at += 4 + bytes[at + 3])
      list.push([(bytes[at] << 8) | bytes[at + 1], (bytes[at + 2] & 1) === 1]);
    return list;
  };
  const get = (bench: PacketBench, type: number, start = 0, allocation = 0xffff) =>
    bench.data(PacketOp.GetConfiguration, type, ...be(start, 2), 0, 0, 0, ...be(allocation, 2));
  const all = [0, 1, 2, 3, 0x10, 0x1d, 0x1e, 0x1f, 0x100, 0x103, 0x105, 0x107, 0x108];
  const without = { cd: [0x1f], dvd: [0x1d, 0x1e, 0x103], none: [0x10, 0x1d, 0x1e, 0x1f, 0x103, 0x107] };
  for (const [kind, medium, profile] of [
    ["cd", iso(), 8],
    ["dvd", dvd(), 0x10],
    ["none", null, 0],
  ] as const) {
    const bench = new PacketBench(medium);
    const whole = await get(bench, 0);
    expect(features(whole).map(([code]) => code)).toEqual(all);
    expect(whole.slice(0, 8)).toEqual([...be(whole.length - 4, 4), 0, 0, 0, profile]);
    const current = all.filter((code) => !(without[kind] as readonly number[]).includes(code));
    expect(features(await get(bench, 1))).toEqual(current.map((code) => [code, true]));
    expect(whole.slice(12, 20)).toEqual([0, 0x10, kind === "dvd" ? 1 : 0, 0, 0, 8, kind === "cd" ? 1 : 0, 0]);
  }
  const bench = new PacketBench(iso());
  expect(features(await get(bench, 0, 0x20)).map(([code]) => code)).toEqual(all.slice(8));
  expect(features(await get(bench, 2, 0x1e))).toEqual([[0x1e, true]]);
  expect(await get(bench, 2, 0x21)).toEqual([0, 0, 0, 4, 0, 0, 0, 8]);
  expect((await get(bench, 0, 0, 10)).length).toBe(10);
  expect((await bench.run(cdb(PacketOp.GetConfiguration, 3))).sense).toBe("5/2400");
});

test("READ DVD STRUCTURE", async () => {
  const structure = (bench: PacketBench, format: number, layer = 0, media = 0) =>
    bench.run(cdb(PacketOp.ReadDiscStructure, media, 0, 0, 0, 0, layer, format, 0xff, 0xff));
  const one = new PacketBench(dvd());
  const physical = (await structure(one, 0)).data;
  const last = 0x30000 + 1953125 - 1;
  expect([physical.length, ...physical.slice(0, 20)]).toEqual([
    2052,
    ...[8, 2, 0, 0, 0x01, 0x0f, 0x01, 0, 0, 3, 0, 0, 0, ...be(last, 3), 0, 0, 0, 0],
  ]);
  expect((await structure(one, 0, 1)).sense).toBe("5/2400");
  const layers = (await structure(new PacketBench(dvd(8_000_000_000)), 0, 1)).data;
  expect([layers[6], ...layers.slice(16, 20)]).toEqual([0x21, 0, ...be(0x30000 + 1953125 - 1, 3)]);
  expect([...(await structure(one, 1)).data]).toEqual([0, 6, 0, 0, 0, 0, 0, 0]);
  expect((await structure(one, 4)).data.length).toBe(2052);
  expect((await structure(one, 3)).sense).toBe("5/2400");
  expect((await structure(one, 0, 0, 1)).sense).toBe("5/2400");
  expect([...(await structure(one, 0xff)).data]).toEqual([0, 14, 0, 0, 0, 0x40, 8, 4, 1, 0x40, 0, 8, 4, 0x40, 8, 4]);
  expect((await structure(new PacketBench(iso()), 0)).sense).toBe("5/3002");
  expect((await structure(new PacketBench(iso()), 0xff)).data.length).toBe(16);
});

test("REPORT KEY and SEND KEY: regions, and no keys", async () => {
  const bench = new PacketBench(dvd());
  const report = (format: number, keyClass = 0) =>
    bench.run(cdb(PacketOp.ReportKey, 0, 0, 0, 0, 0, 0, keyClass, 0, 8, format));
  expect([...(await report(8)).data]).toEqual([0, 6, 0, 0, 0x25, 0xff, 1, 0]);
  const send = (list: number[], format = 6) =>
    bench.run(cdb(PacketOp.SendKey, 0, 0, 0, 0, 0, 0, 0, 0, list.length, format), Uint8Array.from(list));
  for (let left = 4; left >= 0; left--) {
    expect((await send([0, 6, 0, 0, 0xfe, 0, 0, 0])).sense).toBeUndefined();
    const [, , , , changes, region] = (await report(8)).data;
    expect([changes & 7, changes >> 6, region]).toEqual([left, Math.max(1, 3 - left), 0xfe]);
  }
  expect((await send([0, 6, 0, 0, 0xfd, 0, 0, 0])).sense).toBe("5/6f05");
  expect((await send([0, 6])).sense).toBe("5/2400");
  for (const format of [0, 1, 2, 4, 5]) expect((await report(format)).sense).toBe("5/6f01");
  expect((await report(0x3f)).sense).toBeUndefined();
  expect((await report(8, 2)).sense).toBe("5/2400");
  expect((await new PacketBench(iso()).run(cdb(PacketOp.ReportKey, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0))).sense).toBe(
    "5/3002",
  );
  expect((await new PacketBench(null).run(cdb(PacketOp.ReportKey))).sense).toBe("2/3a01");
});
