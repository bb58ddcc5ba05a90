// The unit itself: readiness, sense, inquiry, tray and lock, change of medium, events, mode pages.
import { expect, test } from "vitest";
import { PacketOp } from "../../../../../assembly/spec/mmc.ts";
import { SegmentList } from "../../../../../src/core/segments.ts";
import type { Plain } from "../../../../../src/host/device/ide/device.ts";
import { cdFromBlock } from "../../../../../src/host/media/image.ts";
import { cdb, PacketBench } from "../../../../support/cd.ts";
import { FakeBlock } from "../../../../support/fake-block.ts";

const disc = (count = 32) => cdFromBlock(new FakeBlock(count * 2048));
const TUR = cdb(PacketOp.TestUnitReady);
const READ = cdb(PacketOp.Read10, 0, 0, 0, 0, 0, 0, 0, 1);
const gesn = (classes: number) => [PacketOp.GetEventStatus, 1, 0, 0, classes, 0, 0, 0, 8] as const;
const startStop = (bits: number) => cdb(PacketOp.StartStopUnit, 0, 0, 0, bits);

test("TEST UNIT READY and REQUEST SENSE", async () => {
  const bench = new PacketBench(disc());
  expect((await bench.raw(TUR)).error).toBe(0);
  expect(await bench.sense()).toBe("0/0000");
  expect((await bench.raw(cdb(0xff))).error).toBe(0x50);
  expect(await bench.data(PacketOp.RequestSense, 0, 0, 0, 18)).toEqual([
    0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0,
  ]);
  // It is told once; and the next command forgets it.
  expect(await bench.sense()).toBe("0/0000");
  await bench.raw(cdb(0xff));
  await bench.raw(TUR);
  expect(await bench.sense()).toBe("0/0000");
  // INQUIRY and the like are not "the next command".
  await bench.raw(cdb(0xff));
  await bench.data(PacketOp.Inquiry, 0, 0, 0, 36);
  expect(await bench.sense()).toBe("5/2000");
  // The byte at fault is pointed at.
  await bench.raw(cdb(PacketOp.ReadToc, 0, 9));
  expect((await bench.data(PacketOp.RequestSense, 0, 0, 0, 18)).slice(12)).toEqual([0x24, 0, 0, 0xc0, 0, 2]);
  expect((await bench.data(PacketOp.RequestSense, 0, 0, 0, 3)).length).toBe(3);
});

test("INQUIRY and vital product data", async () => {
  const bench = new PacketBench(null, { vendor: "ACME", product: "SPINNER", revision: "2.5", serial: "S1" });
  const standard = await bench.data(PacketOp.Inquiry, 0, 0, 0, 255);
  expect(standard.slice(0, 8)).toEqual([5, 0x80, 0, 0x21, 31, 0, 0, 0]);
  expect(String.fromCharCode(...standard.slice(8))).toBe("ACME    SPINNER         2.5 ");
  expect(await bench.data(PacketOp.Inquiry, 1, 0, 0, 255)).toEqual([5, 0, 0, 3, 0, 0x80, 0x83]);
  const serial = await bench.data(PacketOp.Inquiry, 1, 0x80, 0, 255);
  expect([serial.slice(0, 4), String.fromCharCode(...serial.slice(4)).trim()]).toEqual([[5, 0x80, 0, 20], "S1"]);
  const id = await bench.data(PacketOp.Inquiry, 1, 0x83, 0, 255);
  expect(id.length).toBe(4 + 24 + 72);
  expect(id.slice(0, 8)).toEqual([5, 0x83, 0, 96, 2, 0, 0, 20]);
  expect(String.fromCharCode(...id.slice(32, 40))).toBe("ACME    ");
  expect((await bench.run(cdb(PacketOp.Inquiry, 1, 0x81, 0, 255))).sense).toBe("5/2400");
  expect((await bench.run(cdb(PacketOp.Inquiry, 0, 0x80, 0, 255))).sense).toBe("5/2400");
  expect((await bench.run(cdb(PacketOp.Inquiry, 2, 0, 0, 255))).sense).toBe("5/2400");
  expect(() => new PacketBench(null, { vendor: "much too long" })).toThrow(/vendor/);
});

test("without a medium", async () => {
  const bench = new PacketBench(null);
  for (const code of [
    0x00, 0x25, 0x28, 0x2b, 0x35, 0x42, 0x43, 0x45, 0x47, 0x4b, 0x4e, 0x51, 0x52, 0xa7, 0xa8, 0xad, 0xb9, 0xbe,
  ]) {
    expect([code, (await bench.run(cdb(code))).sense]).toEqual([code, "2/3a01"]);
  }
  expect((await bench.run(startStop(1))).sense).toBe("2/3a01");
  expect((await bench.run(startStop(0))).sense).toBeUndefined();
  await bench.raw(startStop(2));
  expect((await bench.run(TUR)).sense).toBe("2/3a02");
});

test("a tray that the guest opens and closes", async () => {
  const opens: boolean[] = [];
  const bench = new PacketBench(disc(), { onTray: (open) => opens.push(open) });
  expect((await bench.run(startStop(2))).sense).toBeUndefined();
  expect([bench.drive.isOpen, opens]).toEqual([true, [true]]);
  expect((await bench.run(TUR)).sense).toBe("2/3a02");
  expect(await bench.data(...gesn(0x10))).toEqual([0, 6, 4, 0x5e, 3, 1, 0, 0]);
  expect(await bench.data(...gesn(0x10))).toEqual([0, 6, 4, 0x5e, 0, 1, 0, 0]);
  expect(await bench.data(PacketOp.MechanismStatus, 0, 0, 0, 0, 0, 0, 0, 0, 8)).toEqual([0, 0x10, 0, 0, 0, 1, 0, 0]);
  // Opening it again changes nothing; closing it brings the same disc, of which a command is told.
  await bench.raw(startStop(2));
  expect((await bench.run(startStop(3))).sense).toBeUndefined();
  expect(opens).toEqual([true, false]);
  expect(await bench.data(...gesn(0x10))).toEqual([0, 6, 4, 0x5e, 2, 2, 0, 0]);
  expect((await bench.run(READ)).sense).toBe("6/2800");
  expect((await bench.run(READ)).sense).toBeUndefined();
});

test("a locked tray", async () => {
  const bench = new PacketBench(disc());
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 1));
  expect(bench.drive.isLocked).toBe(true);
  expect((await bench.run(startStop(2))).sense).toBe("2/5302");
  bench.drive.pressEject();
  expect(bench.drive.isOpen).toBe(false);
  expect(await bench.data(...gesn(0x10))).toEqual([0, 6, 4, 0x5e, 1, 2, 0, 0]);
  expect(() => bench.drive.eject()).toThrow(expect.objectContaining({ code: "BUSY" }));
  expect((await bench.data(...gesn(0x10)))[4]).toBe(1);
  // The lock shows in the capabilities page.
  const page = await bench.data(PacketOp.ModeSense10, 0, 0x2a, 0, 0, 0, 0, 0, 255);
  expect(page[8 + 6] & 2).toBe(2);
  // The persistent lock is one of its own.
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 3));
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 0));
  expect(bench.drive.isLocked).toBe(true);
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 2));
  expect(bench.drive.isLocked).toBe(false);
  bench.drive.pressEject();
  expect(bench.drive.isOpen).toBe(true);
  bench.drive.pressEject();
  expect(bench.drive.isOpen).toBe(false);
  const empty = new PacketBench(null);
  await empty.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 1));
  expect((await empty.run(startStop(2))).sense).toBe("5/5302");
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 1));
  expect(bench.drive.eject({ force: true })?.sectors).toBe(32);
  expect([bench.drive.isOpen, bench.drive.disc]).toEqual([true, null]);
});

test("a disc that is changed from outside: no medium, then a unit attention until it is fetched", async () => {
  const bench = new PacketBench(disc());
  expect(bench.drive.eject()?.sectors).toBe(32);
  expect((await bench.run(TUR)).sense).toBe("2/3a02");
  bench.drive.insert(disc(50));
  // These are carried out, and tell nobody of it.
  for (const packet of [
    cdb(PacketOp.Inquiry, 0, 0, 0, 36),
    cdb(PacketOp.GetConfiguration, 0, 0, 0, 0, 0, 0, 0, 8),
    cdb(...gesn(0x10)),
  ]) {
    expect((await bench.run(packet)).sense).toBeUndefined();
  }
  expect((await bench.run(TUR)).sense).toBe("2/3a00");
  expect((await bench.raw(READ)).error).toBe(0x60);
  expect((await bench.raw(READ)).error).toBe(0x60);
  expect((await bench.raw(cdb(0xff))).error).toBe(0x60);
  expect(await bench.sense()).toBe("6/2800");
  expect((await bench.run(READ)).sense).toBeUndefined();
  expect((await bench.data(PacketOp.ReadCapacity))[3]).toBe(49);
  // Straight from disc to disc it is the same.
  bench.drive.insert(disc(20));
  expect((await bench.run(TUR)).sense).toBe("2/3a00");
  expect((await bench.run(TUR)).sense).toBe("6/2800");
  expect((await bench.run(TUR)).sense).toBeUndefined();
  // One that leaves again before anybody looked leaves nothing to be told of.
  bench.drive.insert(disc(21));
  bench.drive.eject();
  expect((await bench.run(TUR)).sense).toBe("2/3a02");
  expect((await bench.run(TUR)).sense).toBe("2/3a02");
});

test("a medium that goes while it is read", async () => {
  const bench = new PacketBench(disc());
  const memory = new Uint8Array(4096);

  await bench.drive.begin(cdb(PacketOp.Read10, 0, 0, 0, 0, 0, 0, 0, 2));
  expect(await bench.drive.read(0, memory, SegmentList.of(0, 2048))).toBe(0);
  bench.drive.eject();
  expect(await bench.drive.read(2048, memory, SegmentList.of(0, 2048))).toBe(0x20);
  expect(await bench.sense()).toBe("2/3a02");
  bench.drive.insert(disc());
  await bench.run(TUR);
  await bench.run(TUR);
  await bench.drive.begin(cdb(PacketOp.Read10, 0, 0, 0, 0, 0, 0, 0, 2));
  bench.drive.insert(disc());
  expect(await bench.drive.read(0, memory, SegmentList.of(0, 2048))).toBe(0x20);
});

test("resets: the wire leaves a unit attention and unlocks; the others only stop the command", async () => {
  const bench = new PacketBench(disc());
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 1));
  await bench.raw(
    cdb(PacketOp.ModeSelect10, 0x10, 0, 0, 0, 0, 0, 0, 20),
    Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 1, 10, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0]),
  );
  for (const kind of ["soft", "abort"] as const) {
    bench.drive.reset(kind);
    expect((await bench.run(TUR)).sense).toBeUndefined();
    expect(bench.drive.isLocked).toBe(true);
  }
  const retries = async () => (await bench.data(PacketOp.ModeSense10, 0, 1, 0, 0, 0, 0, 0, 255))[8 + 3];
  expect(await retries()).toBe(9);
  bench.drive.reset("power");
  expect(bench.drive.isLocked).toBe(false);
  expect((await bench.run(TUR)).sense).toBe("6/2900");
  expect((await bench.run(TUR)).sense).toBeUndefined();
  expect(await retries()).toBe(5);
  // REQUEST SENSE tells of it too, when it is the first to come.
  bench.drive.reset("power");
  expect(await bench.sense()).toBe("6/2900");
  expect((await bench.run(TUR)).sense).toBeUndefined();
});

test("GET EVENT STATUS NOTIFICATION", async () => {
  const bench = new PacketBench(disc());
  expect((await bench.run(cdb(PacketOp.GetEventStatus, 0, 0, 0, 0x10, 0, 0, 0, 8))).sense).toBe("5/2400");
  expect(await bench.data(...gesn(0))).toEqual([0, 2, 0x80, 0x5e]);
  expect(await bench.data(...gesn(0x20))).toEqual([0, 2, 0x80, 0x5e]);
  expect(await bench.data(...gesn(0x10))).toEqual([0, 6, 4, 0x5e, 0, 2, 0, 0]);
  expect(await bench.data(...gesn(0x04))).toEqual([0, 6, 2, 0x5e, 0, 1, 0, 0]);
  expect(await bench.data(...gesn(0x40))).toEqual([0, 6, 6, 0x5e, 0, 0, 0, 0]);
  // Power conditions, and that reading ends them.
  await bench.raw(startStop(0x30));
  expect(await bench.data(...gesn(0xff))).toEqual([0, 6, 2, 0x5e, 1, 3, 0, 0]);
  expect((await bench.run(startStop(0x40))).sense).toBe("5/2400");
  await bench.raw(READ);
  expect((await bench.data(...gesn(4)))[5]).toBe(1);
  // The class with something to tell comes first, the lowest of them; a short answer tells nothing for good.
  bench.drive.pressEject();
  expect(await bench.data(PacketOp.GetEventStatus, 1, 0, 0, 0x10, 0, 0, 0, 4)).toEqual([0, 6, 4, 0x5e]);
  expect(await bench.data(...gesn(0x12))).toEqual([0, 6, 1, 0x5e, 2, 0, 0, 1]);
  expect(await bench.data(...gesn(0x12))).toEqual([0, 6, 4, 0x5e, 3, 1, 0, 0]);
});

test("MODE SENSE: pages, controls, both forms", async () => {
  const bench = new PacketBench(disc());
  const sense10 = (page: number, allocation = 255) =>
    bench.run(cdb(PacketOp.ModeSense10, 0, page, 0, 0, 0, 0, 0, allocation));
  const lengths: Record<number, number> = { 1: 12, 13: 8, 14: 16, 42: 22, 63: 58 };
  for (const [page, length] of Object.entries(lengths)) {
    const { data } = await sense10(Number(page));
    expect(data.length).toBe(8 + length);
    expect([...data.slice(0, 8)]).toEqual([0, data.length - 2, 1, 0, 0, 0, 0, 0]);
    if (page !== "63") expect([data[8], data[9]]).toEqual([Number(page), length - 2]);
    const short = await bench.data(PacketOp.ModeSense6, 0, Number(page), 0, 255);
    expect([short.slice(0, 4), short.slice(4)]).toEqual([[short.length - 1, 1, 0, 0], [...data.slice(8)]]);
    for (const control of [0x40, 0x80]) expect((await sense10(control | Number(page))).data.length).toBe(8 + length);
    expect((await sense10(0xc0 | Number(page))).sense).toBe("5/3900");
  }
  expect((await sense10(2)).sense).toBe("5/2400");
  expect((await sense10(0x3f, 10)).data.length).toBe(10);
  expect([...(await sense10(0x4d)).data.slice(8)]).toEqual([13, 6, 0, 15, 0, 0, 0, 0]);
  expect((await sense10(0x6a)).data.slice(10).every((byte) => byte === 0)).toBe(true);
  bench.drive.pressEject();
  expect((await sense10(1)).data[2]).toBe(0x71);
});

test("MODE SELECT changes what may be changed, or nothing at all", async () => {
  const bench = new PacketBench(disc());
  const select10 = (list: number[], bits = 0x10) =>
    bench.run(cdb(PacketOp.ModeSelect10, bits, 0, 0, 0, 0, 0, 0, list.length), Uint8Array.from(list));
  const page = async (code: number) => (await bench.data(PacketOp.ModeSense10, 0, code, 0, 0, 0, 0, 0, 255)).slice(8);
  const header = [0, 0, 0, 0, 0, 0, 0, 0];
  const audio = [14, 14, 6, 0, 0, 0, 0, 75, 2, 100, 1, 50, 0, 0, 0, 0];
  const recovery = [1, 10, 0x20, 7, 0, 0, 0, 0, 0, 0, 0, 0];
  expect((await select10([...header, ...audio, ...recovery])).sense).toBeUndefined();
  expect([await page(14), await page(1)]).toEqual([audio, recovery]);
  // With a block descriptor; and in the short form.
  expect(
    (await select10([0, 0, 0, 0, 0, 0, 0, 8, ...new Array(8).fill(0), 13, 6, 0, 3, 0, 60, 0, 75])).sense,
  ).toBeUndefined();
  expect((await page(13))[3]).toBe(3);
  const short = [0, 0, 0, 0, 13, 6, 0, 4, 0, 60, 0, 75];
  expect(
    (await bench.run(cdb(PacketOp.ModeSelect6, 0x10, 0, 0, short.length), Uint8Array.from(short))).sense,
  ).toBeUndefined();
  expect((await page(13))[3]).toBe(4);
  const bad: [number[], string][] = [
    // The second page is wrong: the first does not change either.
    [[...header, 13, 6, 0, 9, 0, 60, 0, 75, 1, 10, 0x40, 7, 0, 0, 0, 0, 0, 0, 0, 0], "5/2600"],
    [[...header, 5, 2, 0, 0], "5/2600"],
    [[...header, 13, 7, 0, 9, 0, 60, 0, 75, 0], "5/2600"],
    [[...header, 13, 6, 0, 9], "5/1a00"],
    [[...header, 13], "5/1a00"],
    [[0, 0, 0], "5/1a00"],
    [[0, 0, 0, 0, 0, 0, 0, 8], "5/1a00"],
    [[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0], "5/2600"],
  ];
  for (const [list, sense] of bad) expect((await select10(list)).sense).toBe(sense);
  expect((await page(13))[3]).toBe(4);
  expect((await select10([...header], 0x11)).sense).toBe("5/2400");
  expect((await select10([...header], 0)).sense).toBe("5/2400");
  expect((await select10([])).sense).toBeUndefined();
});

test("a drive is saved as plain data, and goes on from there", async () => {
  const bench = new PacketBench(disc());
  await bench.raw(cdb(PacketOp.PreventAllow, 0, 0, 0, 1));
  await bench.raw(cdb(0xff));

  const move = (to: PacketBench) => {
    const state = JSON.parse(JSON.stringify(bench.drive.save())) as Plain;
    to.drive.restore(state);
    expect(to.drive.save()).toEqual(bench.drive.save());
    return to;
  };
  const second = move(new PacketBench(disc()));
  expect([second.drive.isLocked, await second.sense()]).toEqual([true, "5/2000"]);
  // In the middle of a read, of an answer, of a parameter list.
  await bench.drive.begin(cdb(PacketOp.Read10, 0, 0, 0, 0, 3, 0, 0, 4));
  const memory = new Uint8Array(2048).fill(1);
  expect(await move(new PacketBench(disc())).drive.read(2048, memory, SegmentList.of(0, 2048))).toBe(0);
  expect(memory.every((byte) => byte === 0)).toBe(true);
  const other = new PacketBench(disc(99));
  other.drive.restore(bench.drive.save());
  expect(await other.drive.read(2048, memory, SegmentList.of(0, 2048))).toBe(0x40);
  await bench.drive.begin(cdb(PacketOp.Inquiry, 0, 0, 0, 36));
  await move(new PacketBench(disc())).drive.read(0, memory, SegmentList.of(0, 8));
  expect(memory[3]).toBe(0x21);
  await bench.drive.begin(cdb(PacketOp.ModeSelect6, 0x10, 0, 0, 12));
  memory.set([0, 0, 0, 0, 13, 6, 0, 4, 0, 60, 0, 75]);
  expect(bench.drive.write(0, memory, SegmentList.of(0, 6))).toBe(0);
  const third = move(new PacketBench(disc()));
  expect(third.drive.write(6, memory, SegmentList.of(6, 6))).toBe(0);
  expect(third.drive.end()).toEqual({ kind: "done" });
  expect((await third.data(PacketOp.ModeSense6, 0, 13, 0, 255))[4 + 3]).toBe(4);
  // Another disc than it was saved with counts as a change.
  const fourth = new PacketBench(disc(40));
  fourth.drive.restore(bench.drive.save());
  expect((await fourth.run(TUR)).sense).toBe("2/3a00");
  expect((await fourth.run(TUR)).sense).toBe("6/2800");
});

test("a save that no drive has made is refused, and changes nothing", async () => {
  const bench = new PacketBench(disc());
  await bench.drive.begin(cdb(PacketOp.ReadCd, 0, 0, 0, 0, 3, 0, 0, 4, 0xf8));
  const good = JSON.stringify(bench.drive.save());
  const spoil = (from: string, to: string) => {
    expect(good).toContain(from);
    return JSON.parse(good.replace(from, to)) as Plain;
  };
  for (const bad of [
    spoil('"bytes":2352', '"bytes":0'),
    spoil('"parts":[[0,2352]]', '"parts":[[0,99999]]'),
    spoil('"lba":3', '"lba":-3'),
    spoil('"sub":0', '"sub":1e9'),
    spoil('"trayOpen":false', '"trayOpen":7'),
    spoil('"events":[]', '"events":[{"class":99,"code":0}]'),
    spoil('"attention":[]', '"attention":[null]'),
    spoil('"13":[', '"12":['),
    spoil('"state":{', '"state":null,"other":{'),
  ]) {
    expect(() => bench.drive.restore(bad)).toThrow(expect.objectContaining({ code: "INVALID" }));
    expect(JSON.stringify(bench.drive.save())).toBe(good);
  }
  bench.drive.restore(JSON.parse(good) as Plain);
});
