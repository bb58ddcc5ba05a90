import { expect, test } from "vitest";
import { ParavaneError } from "../../../src/core/error.ts";
import { type Flow, run } from "../../../src/core/flow.ts";
import { openCue } from "../../../src/host/media/cue/open.ts";
import { parseCue } from "../../../src/host/media/cue/parse.ts";
import { trackAt } from "../../../src/host/media/disc.ts";
import { readRaw, readUser, SectorError } from "../../../src/host/media/read.ts";
import { RAW } from "../../../src/host/media/sector.ts";
import { positionOf, subchannelQ } from "../../../src/host/media/subchannel.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { cueDisc, sectors, segmentsOf } from "../../support/disc.ts";

function now<T>(flow: Flow<T>): T {
  const value = run(flow);
  if (value instanceof Promise) throw new Error("not synchronous");
  return value;
}

const MIXED = `
CATALOG 0123456789012
REM a mixed-mode disc in one file
FILE "game.bin" BINARY
  TRACK 01 MODE1/2352
    INDEX 01 00:00:00
  TRACK 02 AUDIO
    FLAGS DCP PRE
    ISRC ABCDE1234567
    PREGAP 00:02:00
    INDEX 01 00:00:20
  TRACK 03 AUDIO
    INDEX 00 00:01:00
    INDEX 01 00:01:10
    INDEX 02 00:01:20
    POSTGAP 00:00:05
`;

test("a mixed-mode disc in one file", () => {
  const bin = sectors(110, RAW);
  const disc = cueDisc(MIXED, { "game.bin": bin });
  expect(disc.mcn).toBe("0123456789012");
  expect(
    disc.tracks.map(({ number, control, pregap, start, end, indexes, isrc }) => [
      number,
      control,
      pregap,
      start,
      end,
      indexes,
      isrc,
    ]),
  ).toEqual([
    [1, 4, 0, 0, 20, [], undefined],
    [2, 3, 20, 170, 225, [], "ABCDE1234567"],
    [3, 0, 225, 235, 265, [245], undefined],
  ]);
  expect(disc.sessions).toEqual([{ number: 1, firstTrack: 1, lastTrack: 3, leadOut: 265, type: 0 }]);
  // The file's sector 75 is where track 3's index 0 is; the gap is silent; the post-gap too.
  expect(now(readRaw(disc, 225, 1))).toEqual(bin.slice(75 * RAW, 76 * RAW));
  expect(now(readRaw(disc, 19, 3))).toEqual(
    Uint8Array.from([...bin.slice(19 * RAW, 20 * RAW), ...new Uint8Array(2 * RAW)]),
  );
  expect(now(readRaw(disc, 262, 3)).every((byte) => byte === 0)).toBe(true);
  const user = new Uint8Array(4096);
  now(readUser(disc, 4, 2, user, segmentsOf(4096)));
  expect(user.slice(0, 2048)).toEqual(bin.slice(4 * RAW + 16, 4 * RAW + 2064));
  expect(() => now(readUser(disc, 19, 2, user, segmentsOf(4096)))).toThrow(
    expect.objectContaining({ code: "UNSUPPORTED", lba: 20 }),
  );
  expect(() => now(readRaw(disc, 264, 2))).toThrow(SectorError);
});

test("sub-channel Q counts down in a pre-gap", () => {
  const disc = cueDisc(MIXED, { "game.bin": sectors(110, RAW) });
  expect(positionOf(disc, 169)).toEqual({ control: 3, track: 2, index: 0, relative: -1 });
  expect(positionOf(disc, 246)).toEqual({ control: 0, track: 3, index: 2, relative: 11 });
  expect(positionOf(disc, 265)).toEqual({ control: 0, track: 0xaa, index: 1, relative: 0 });
  expect([...subchannelQ(disc, 169)].slice(0, 10)).toEqual([0x31, 2, 0, 0, 0, 1, 0, 0, 0x04, 0x19]);
});

test("one file a track, and a gap at the end of the file before", () => {
  const sheet = `FILE one.bin BINARY
TRACK 01 AUDIO
INDEX 01 00:00:00
TRACK 02 AUDIO
INDEX 00 00:00:30
FILE "two with blanks.bin" BINARY
INDEX 01 00:00:00`;
  const [one, two] = [sectors(40, RAW, 1), sectors(25, RAW, 2)];
  const disc = cueDisc(sheet, { "one.bin": one, "two with blanks.bin": two });
  expect(disc.tracks.map(({ pregap, start, end }) => [pregap, start, end])).toEqual([
    [0, 0, 30],
    [30, 40, 65],
  ]);
  expect(now(readRaw(disc, 39, 2))).toEqual(Uint8Array.from([...one.slice(39 * RAW), ...two.slice(0, RAW)]));
});

test("sectors of several sizes in one file, and samples that end within a sector", () => {
  const sheet = `FILE a BINARY
TRACK 01 MODE1/2048
INDEX 01 00:00:00
TRACK 02 MODE2/2336
INDEX 01 00:00:10
TRACK 03 AUDIO
INDEX 01 00:00:15`;
  const form2 = sectors(5, 2336, 9);
  for (let i = 0; i < 5; i++) form2.set(i === 3 ? [0, 0, 0x20, 0, 0, 0, 0x20, 0] : [0, 0, 8, 0, 0, 0, 8, 0], i * 2336);
  const audio = sectors(2, RAW, 4).slice(0, RAW + 100);
  const disc = cueDisc(sheet, { a: Uint8Array.from([...sectors(10, 2048), ...form2, ...audio]) });
  expect(disc.tracks.map(({ start, end }) => [start, end])).toEqual([
    [0, 10],
    [10, 15],
    [15, 17],
  ]);
  const user = new Uint8Array(3 * 2048);
  now(readUser(disc, 9, 3, user, segmentsOf(user.length)));
  expect(user.slice(0, 2048)).toEqual(sectors(10, 2048).slice(9 * 2048));
  expect(user.slice(2048, 4096)).toEqual(form2.slice(8, 8 + 2048));
  expect(() => now(readUser(disc, 12, 2, user, segmentsOf(4096)))).toThrow(expect.objectContaining({ lba: 13 }));
  expect(now(readRaw(disc, 16, 1)).slice(0, 101)).toEqual(Uint8Array.from([...audio.slice(RAW), 0]));
  expect(disc.sessions[0].type).toBe(0x20);
});

test("two sessions", () => {
  const sheet = `FILE a BINARY
TRACK 01 AUDIO
INDEX 01 00:00:00
REM SESSION 02
FILE b BINARY
TRACK 02 MODE1/2048
INDEX 01 00:00:00`;
  const disc = cueDisc(sheet, { a: sectors(50, RAW), b: sectors(20, 2048) });
  expect(disc.sessions).toEqual([
    { number: 1, firstTrack: 1, lastTrack: 1, leadOut: 50, type: 0 },
    { number: 2, firstTrack: 2, lastTrack: 2, leadOut: 11470, type: 0 },
  ]);
  expect(disc.tracks[1].start).toBe(11450);
  expect(trackAt(disc, 60)).toBeUndefined();
  expect(() => now(readRaw(disc, 60, 1))).toThrow(/no track/);
});

function wave(samples: Uint8Array, channels = 2): Uint8Array {
  const text = (s: string) => [...s].map((c) => c.charCodeAt(0));
  const u32 = (n: number) => [n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24];
  const format = [1, 0, channels, 0, ...u32(44100), ...u32(176400), 4, 0, 16, 0];
  const odd = [...text("LIST"), ...u32(3), 1, 2, 3, 0];
  const data = [...text("data"), ...u32(samples.length), ...samples];
  return Uint8Array.from([
    ...text("RIFF"),
    ...u32(0),
    ...text("WAVEfmt "),
    ...u32(16),
    ...format,
    ...odd,
    ...data,
    ...text("id3 "),
    9,
    9,
    9,
  ]);
}

test("WAVE and MOTOROLA files", () => {
  const samples = sectors(3, RAW, 5);
  const swapped = samples.slice();
  for (let i = 0; i < swapped.length; i += 2) [swapped[i], swapped[i + 1]] = [swapped[i + 1], swapped[i]];
  const sheet = `FILE a.wav WAVE
TRACK 01 AUDIO
INDEX 01 00:00:00
FILE b MOTOROLA
TRACK 02 AUDIO
INDEX 01 00:00:00`;
  const disc = cueDisc(sheet, { "a.wav": wave(samples.slice(0, -100)), b: swapped });
  const first = samples.slice();
  first.fill(0, first.length - 100);
  expect(now(readRaw(disc, 0, 3))).toEqual(first);
  expect(now(readRaw(disc, 3, 3))).toEqual(samples);
  expect(() => cueDisc(sheet, { "a.wav": wave(samples, 1), b: swapped })).toThrow(/not those of a CD/);
  expect(() => cueDisc(sheet, { "a.wav": samples, b: swapped })).toThrow(/no RIFF WAVE/);
});

const TRACK = "FILE a BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00";
test.each([
  ["", 1, /no TRACK/],
  ["FILE a BINARY\nTRACK 01 AUDIO", 2, /no INDEX 01/],
  ["TRACK 01 AUDIO\nINDEX 01 00:00:00", 2, /before the first FILE/],
  ["FILE a BINARY\nINDEX 01 00:00:00", 2, /before the first TRACK/],
  ["FILE a MP3", 1, /type MP3/],
  ["FILE a", 1, /2 values/],
  ["FILE a BINARY\nTRACK 01 MODE9/1", 2, /type MODE9/],
  ["FILE a BINARY\nTRACK 00 AUDIO", 2, /no track number/],
  [`${TRACK}\nTRACK 03 AUDIO`, 4, /track 3 after track 1/],
  [`${TRACK}\nINDEX 01 00:00:01`, 4, /out of order/],
  ["FILE a BINARY\nTRACK 01 AUDIO\nINDEX 02 00:00:00", 3, /out of order/],
  [`${TRACK}\nINDEX 02 00:61:00`, 4, /no time/],
  [`${TRACK}\nINDEX 02 0:0`, 4, /no mm:ss:ff/],
  [`${TRACK}\nPREGAP 00:02:00`, 4, /PREGAP after INDEX/],
  ["FILE a BINARY\nTRACK 01 AUDIO\nPOSTGAP 00:02:00", 3, /POSTGAP before INDEX/],
  ["FILE a BINARY\nTRACK 01 AUDIO\nINDEX 00 00:01:00\nINDEX 01 00:00:00", 4, /before that/],
  ["CATALOG 12", 1, /13 digits/],
  [`${TRACK}\nISRC 12`, 4, /ISRC/],
  [`${TRACK}\nFLAGS DCP WHAT`, 4, /flag WHAT/],
  ["HELLO", 1, /no command HELLO/],
  [`${TRACK}\nREM SESSION 05`, 4, /out of order/],
  [`${TRACK}\nREM SESSION 02`, 4, /session without/],
  ["FILE a WAVE\nTRACK 01 MODE1/2352\nINDEX 01 00:00:00", 3, /data track/],
])("a bad sheet is refused with its line: %j", (sheet, line, message) => {
  try {
    parseCue(sheet);
  } catch (thrown) {
    expect((thrown as ParavaneError).message).toMatch(message);
    expect((thrown as ParavaneError).context.line).toBe(line);
    return;
  }
  throw new Error("accepted");
});

test("a sheet that its files contradict", () => {
  const two = `${TRACK}\nTRACK 02 AUDIO\nINDEX 01 00:01:00`;
  expect(() => cueDisc(two, { a: sectors(10, RAW) })).toThrow(/line 5: a ends before/);
  expect(() => cueDisc(TRACK, { a: new Uint8Array(0) })).toThrow(/line 2: track 1 has no sectors/);
  expect(() => cueDisc(TRACK, {})).toThrow(/line 1: a: no file a/);
});

test("files are opened once each, closed with the disc, and on failure", async () => {
  const open: string[] = [];
  const openFile = async (name: string) => {
    if (name === "missing") throw new ParavaneError("NOT_FOUND", "no such file");
    const store = new MemoryStore(sectors(5, RAW), { name });
    open.push(name);
    const close = store.close.bind(store);
    store.close = () => {
      const at = open.indexOf(name);
      if (at >= 0) open.splice(at, 1);
      close();
    };
    return store;
  };
  const second = `${TRACK}\nFILE b BINARY\nTRACK 02 AUDIO\nINDEX 01 00:00:00`;
  const disc = await openCue(new TextEncoder().encode(second), { openFile });
  expect(open).toEqual(["a", "b"]);
  await disc.close();
  await disc.close();
  expect(open).toEqual([]);
  await expect(openCue(second.replace("FILE b", "FILE missing"), { openFile })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  expect(open).toEqual([]);
});
