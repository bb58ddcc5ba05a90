// Random command packets against a CD drive: any bytes at all, and real commands with random arguments; discs of every kind
// that come and go, images that fail. What must never happen is checked after each; that most commands have both gone well
// and been refused is asserted at the end.
import { expect, test, vi } from "vitest";
import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import { SegmentList } from "../../src/core/segments.ts";
import { COMMANDS } from "../../src/host/device/ide/atapi/commands/index.ts";
import { CdDrive } from "../../src/host/device/ide/atapi/drive.ts";
import type { Disc } from "../../src/host/media/disc.ts";
import { cdFromBlock } from "../../src/host/media/image.ts";
import { ManualClock } from "../support/cd.ts";
import { cueDisc, sectors } from "../support/disc.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

const PACKETS = tier(1_000_000, 20_000_000);
vi.setConfig({ testTimeout: tier(300_000, 3_600_000) });
const SEED = Number(process.env.PARAVANE_SEED ?? 20261126);
const MEMORY = 1 << 16;
const GUARD = 0xa5;

/** Fails now and then, and never answers beyond its end. */
class Flaky implements Block {
  readonly sectorSize = 512;
  readonly readOnly = true;
  copied = 0;
  readonly size: number;
  readonly #random: Random;

  constructor(size: number, random: Random) {
    this.size = size;
    this.#random = random;
  }

  submit(batch: readonly BlockRequest[]): void {
    for (const request of batch) {
      const { op, offset, length } = request;
      if (op !== Op.Read) throw new Error(`op ${op}`);
      if (offset < 0 || offset + length > this.size || offset % 512 || length % 512)
        throw new Error("out of the image");
      request.status = this.#random.oneIn(40)
        ? this.#random.pick([Status.Media, Status.Io, Status.OutOfRange])
        : Status.Ok;
    }
  }
  close(): void {}
}

function discs(random: Random): (Disc | null)[] {
  const mode2 = new Uint8Array(30 * 2336);
  for (let i = 0; i < 30; i++)
    mode2.set(i % 3 === 0 ? [0, 0, 0x20, 0, 0, 0, 0x20, 0] : [0, 0, 8, 0, 0, 0, 8, 0], i * 2336);
  const sheet = `CATALOG 1234567890123
FILE a BINARY
TRACK 01 MODE1/2352
INDEX 01 00:00:00
TRACK 02 AUDIO
PREGAP 00:02:00
ISRC ABCDE1234567
INDEX 01 00:00:50
REM SESSION 02
FILE b BINARY
TRACK 03 MODE2/2336
TITLE "three"
INDEX 01 00:00:00`;
  return [
    cdFromBlock(new Flaky(2048 * 300 + 512, random)),
    cueDisc(sheet, { a: sectors(100, 2352), b: mode2 }),
    cdFromBlock(new Flaky(5 * 2 ** 30, random)),
    cdFromBlock(new Flaky(2352 * 512, random), { form: "audio" }),
    null,
  ];
}

function packet(random: Random, codes: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(12);
  for (let i = 0; i < 12; i++) bytes[i] = random.oneIn(3) ? random.u32() >>> 24 : 0;
  if (random.oneIn(8)) return bytes.fill(random.pick([0, 1, 0x7f, 0x80, 0xff]), 1 + random.below(11));
  bytes[0] = random.pick(codes);
  // Addresses and lengths that mean something more often than chance has it.
  if (random.oneIn(2)) bytes.set([0, 0, random.below(3), random.u32() & 0xff], 2);
  if (random.oneIn(2)) bytes.set([0, random.below(2), random.u32() & 0x3f], 6);
  if (random.oneIn(4)) bytes[9] = random.pick([0x10, 0xf8, 0xfa, 0x78]);
  return bytes;
}

test(`${PACKETS} packets: no exception, no byte outside the segments, bounded answers`, () => {
  const random = new Random(SEED);
  const clock = new ManualClock();
  const pool = discs(random);
  const codes = [...COMMANDS.keys()];
  const drive = new CdDrive({ cd: pool[0] }, clock, 0);
  const memory = new Uint8Array(MEMORY);
  const segments = new SegmentList();
  const good = new Set<number>();
  const bad = new Set<number>();
  let moved = 0;
  for (let i = 0; i < PACKETS; i++) {
    if (random.oneIn(50)) {
      const disc = random.pick(pool);
      if (disc) drive.insert(disc);
      else drive.eject({ force: true });
    }
    if (random.oneIn(60)) drive.pressEject();
    if (random.oneIn(500)) drive.reset(random.pick(["power", "soft", "abort"]));
    if (random.oneIn(200)) drive.restore(JSON.parse(JSON.stringify(drive.save())));
    clock.time += random.below(40);
    const bytes = packet(random, codes);
    const answer = drive.begin(bytes);
    if (answer instanceof Promise) throw new Error("a synchronous image has made it wait");
    if (answer.kind === "check") {
      if (answer.error % 16 !== 0 || answer.error === 0 || answer.error > 0x60)
        throw new Error(`error ${answer.error}`);
      bad.add(bytes[0]);
      // Attention and the like would hide everything else.
      if (random.oneIn(2)) drive.begin(Uint8Array.of(3, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0));
      continue;
    }
    good.add(bytes[0]);
    if (answer.kind === "done") continue;
    if (!(answer.length >= 0) || answer.length > 2 ** 32 * 2742) throw new Error(`length ${answer.length}`);
    // A few pieces, as a host with any byte count limit would have them, into memory with guards around each.
    for (let at = 0, pieces = 0; at < answer.length && pieces < 3; pieces++) {
      const length = Math.min(1 + random.below(random.oneIn(10) ? 30000 : 3000), answer.length - at);
      const lead = 1 + random.below(64);
      const cut = random.below(length);
      memory.fill(GUARD, 0, lead + length + 3);
      segments.clear();
      segments.push(lead, cut);
      segments.push(lead + cut + 1, length - cut);
      const error = answer.kind === "in" ? drive.read(at, memory, segments) : drive.write(at, memory, segments);
      if (error instanceof Promise) throw new Error("a synchronous image has made it wait");
      if (memory[lead - 1] !== GUARD || memory[lead + length + 1] !== GUARD) throw new Error("outside its segments");
      if (cut > 0 && cut < length && memory[lead + cut] !== GUARD) throw new Error("between its segments");
      if (error !== 0) break;
      moved += length;
      at += length;
    }
    if (random.oneIn(2)) drive.end();
  }
  expect(moved).toBeGreaterThan(PACKETS * 10);
  expect(codes.filter((code) => !good.has(code))).toEqual([]);
  // What has no argument that could be wrong is refused for attention or want of a medium, if it heeds those.
  expect(codes.filter((code) => !bad.has(code) && !COMMANDS.get(code)!.always)).toEqual([]);
});
