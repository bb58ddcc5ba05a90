// Audio play on a clock that stands still until it is told.
import { expect, test } from "vitest";
import { PacketOp } from "../../../../../assembly/spec/mmc.ts";
import { be, cdb, number, PacketBench } from "../../../../support/cd.ts";
import { cueDisc, sectors } from "../../../../support/disc.ts";

const RAW = 2352;
const bin = sectors(400, RAW);
const SHEET = `CATALOG 1234567890123
FILE a BINARY
TRACK 01 AUDIO
  ISRC ABCDE1234567
  INDEX 01 00:00:00
TRACK 02 AUDIO
  INDEX 00 00:02:00
  INDEX 01 00:02:10
  INDEX 02 00:03:00
TRACK 03 MODE1/2352
  INDEX 01 00:04:00`;

const play = (lba: number, count: number) => cdb(PacketOp.PlayAudio10, 0, ...be(lba, 4), 0, ...be(count, 2));

function bench(options: ConstructorParameters<typeof PacketBench>[1] = {}) {
  const rig = new PacketBench(cueDisc(SHEET, { a: bin }), options);
  return Object.assign(rig, {
    /** Audio status, track, index, address, relative address. */
    async position(): Promise<number[]> {
      const bytes = Uint8Array.from(await rig.data(PacketOp.ReadSubChannel, 0, 0x40, 1, 0, 0, 0, 0, 16));
      return [bytes[1], bytes[6], bytes[7], number(bytes, 8, 4), number(bytes, 12, 4) | 0];
    },
  });
}

test("a play advances with the clock, completes, and says so once", async () => {
  const rig = bench();
  expect(await rig.position()).toEqual([0x15, 1, 1, 0, 0]);
  expect((await rig.run(play(75, 150))).sense).toBeUndefined();
  expect(await rig.position()).toEqual([0x11, 1, 1, 75, 75]);
  rig.clock.advance(999);
  expect(await rig.position()).toEqual([0x11, 1, 1, 149, 149]);
  rig.clock.advance(1);
  // In the pre-gap of track 2 time runs backwards.
  expect(await rig.position()).toEqual([0x11, 2, 0, 150, -10]);
  expect(await rig.data(PacketOp.ReadSubChannel, 2, 0x40, 1, 0, 0, 0, 0, 16)).toEqual([
    0, 0x11, 0, 12, 1, 0x10, 2, 0, 0, 0, 4, 0, 0, 0, 0, 10,
  ]);
  expect(await rig.data(PacketOp.MechanismStatus, 0, 0, 0, 0, 0, 0, 0, 0, 8)).toEqual([0, 0x20, 0, 0, 150, 1, 0, 0]);
  expect(await rig.sense()).toBe("0/0011");
  rig.clock.advance(1000);
  expect(await rig.position()).toEqual([0x13, 2, 2, 225, 65]);
  expect(await rig.position()).toEqual([0x15, 2, 2, 225, 65]);
});

test("pause, resume, stop, and what ends a play", async () => {
  const rig = bench();
  const pause = (resume: number) => rig.run(cdb(PacketOp.PauseResume, 0, 0, 0, 0, 0, 0, 0, resume));
  expect((await pause(0)).sense).toBe("5/2c00");
  await rig.run(play(0, 150));
  rig.clock.advance(400);
  await pause(0);
  rig.clock.advance(5000);
  expect(await rig.position()).toEqual([0x12, 1, 1, 30, 30]);
  expect((await pause(0)).sense).toBeUndefined();
  await pause(1);
  rig.clock.advance(400);
  expect((await rig.position()).slice(0, 4)).toEqual([0x11, 1, 1, 60]);
  await rig.run(cdb(PacketOp.StopPlayScan));
  expect(await rig.position()).toEqual([0x15, 1, 1, 60, 60]);
  // From where it is, to a time.
  expect((await rig.run(cdb(PacketOp.PlayAudioMsf, 0, 0, 255, 255, 255, 0, 3, 0))).sense).toBeUndefined();
  expect((await rig.position()).slice(0, 4)).toEqual([0x11, 1, 1, 60]);
  await rig.run(cdb(PacketOp.Seek10, 0, 0, 0, 0, 100));
  expect(await rig.position()).toEqual([0x15, 1, 1, 100, 100]);
  await rig.run(play(0, 150));
  rig.drive.pressEject();
  rig.drive.pressEject();
  await rig.run(cdb(PacketOp.TestUnitReady));
  expect((await rig.position())[0]).toBe(0x15);
});

test("what cannot be played", async () => {
  const rig = bench();
  expect((await rig.run(play(300, 1))).sense).toBe("5/6400");
  expect((await rig.run(play(399, 2))).sense).toBe("5/2100");
  expect((await rig.run(play(400, 1))).sense).toBe("5/2100");
  expect((await rig.run(play(7, 0))).sense).toBeUndefined();
  expect((await rig.position()).slice(0, 4)).toEqual([0x15, 1, 1, 7]);
  expect((await rig.run(cdb(PacketOp.PlayAudioMsf, 0, 0, 0, 4, 0, 0, 3, 0))).sense).toBe("5/2400");
  expect((await rig.run(cdb(PacketOp.PlayAudioMsf, 0, 0, 0, 60, 0, 1, 3, 0))).sense).toBe("5/2400");
  // A play that runs into data stops there with an error.
  expect((await rig.run(play(290, 20))).sense).toBeUndefined();
  rig.clock.advance(1000);
  expect(await rig.position()).toEqual([0x14, 3, 1, 300, 0]);
});

test("PLAY AUDIO (12), by track and index, and stop on track crossing", async () => {
  const rig = bench();
  await rig.run(cdb(PacketOp.PlayAudio12, 0, ...be(10, 4), ...be(20, 4)));
  expect((await rig.position()).slice(0, 4)).toEqual([0x11, 1, 1, 10]);
  expect((await rig.run(cdb(PacketOp.PlayAudioTrackIndex, 0, 0, 0, 2, 1, 0, 2, 1))).sense).toBeUndefined();
  expect((await rig.position()).slice(0, 4)).toEqual([0x11, 2, 1, 160]);
  rig.clock.advance(2000);
  expect((await rig.position()).slice(0, 4)).toEqual([0x13, 2, 2, 225]);
  expect((await rig.run(cdb(PacketOp.PlayAudioTrackIndex, 0, 0, 0, 9, 1, 0, 9, 1))).sense).toBe("5/2400");
  const sotc = [0, 0, 0, 0, 14, 14, 6, 0, 0, 0, 0, 75, 1, 255, 2, 255, 0, 0, 0, 0];
  await rig.run(cdb(PacketOp.ModeSelect6, 0x10, 0, 0, sotc.length), Uint8Array.from(sotc));
  await rig.run(play(100, 150));
  rig.clock.advance(3000);
  expect((await rig.position()).slice(0, 4)).toEqual([0x13, 2, 0, 150]);
});

test("READ SUB-CHANNEL: media catalogue number, ISRC, header only", async () => {
  const rig = bench();
  const mcn = await rig.data(PacketOp.ReadSubChannel, 0, 0x40, 2, 0, 0, 0, 0, 255);
  expect([mcn.slice(0, 9), String.fromCharCode(...mcn.slice(9, 22))]).toEqual([
    [0, 0x15, 0, 20, 2, 0, 0, 0, 0x80],
    "1234567890123",
  ]);
  const isrc = await rig.data(PacketOp.ReadSubChannel, 0, 0x40, 3, 0, 0, 1, 0, 255);
  expect([isrc.slice(4, 9), String.fromCharCode(...isrc.slice(9, 21))]).toEqual([
    [3, 0x10, 1, 0, 0x80],
    "ABCDE1234567",
  ]);
  expect((await rig.data(PacketOp.ReadSubChannel, 0, 0x40, 3, 0, 0, 2, 0, 255)).slice(8)).toEqual(
    new Array(16).fill(0),
  );
  expect((await rig.run(cdb(PacketOp.ReadSubChannel, 0, 0x40, 3, 0, 0, 9, 0, 255))).sense).toBe("5/2400");
  expect((await rig.run(cdb(PacketOp.ReadSubChannel, 0, 0x40, 0, 0, 0, 0, 0, 255))).sense).toBe("5/2400");
  expect(await rig.data(PacketOp.ReadSubChannel, 0, 0, 0, 0, 0, 0, 0, 255)).toEqual([0, 0x15, 0, 0]);
});

test("a listener hears every sample once, as loud as the guest wants", async () => {
  const heard: number[] = [];
  const rig = bench({ onAudio: (samples) => heard.push(...samples) });
  await rig.run(play(20, 30));
  rig.clock.advance(1000);
  const want = new Int16Array(bin.slice(20 * RAW, 50 * RAW).buffer);
  expect(Buffer.compare(Buffer.from(Int16Array.from(heard).buffer), Buffer.from(want.buffer))).toBe(0);
  heard.length = 0;
  // Left on both, the right port at half.
  const volume = [0, 0, 0, 0, 14, 14, 4, 0, 0, 0, 0, 75, 1, 255, 1, 127, 0, 0, 0, 0];
  await rig.run(cdb(PacketOp.ModeSelect6, 0x10, 0, 0, volume.length), Uint8Array.from(volume));
  await rig.run(play(20, 1));
  rig.clock.advance(100);
  expect([heard[0], heard[1], heard[2]]).toEqual([want[0], Math.round((want[0] * 127) / 255), want[2]]);
  heard.length = 0;
  await rig.run(play(0, 150));
  rig.clock.advance(100);
  await rig.run(cdb(PacketOp.StopPlayScan));
  const until = heard.length;
  rig.clock.advance(1000);
  expect(heard.length).toBe(until);
});

test("a save in the middle of a play goes on from there", async () => {
  const rig = bench();
  await rig.run(play(0, 150));
  rig.clock.advance(400);
  const other = bench();
  other.clock.time = 9_000_000;
  other.drive.restore(rig.drive.save());
  other.clock.advance(400);
  expect((await other.position()).slice(0, 4)).toEqual([0x11, 1, 1, 60]);
});
