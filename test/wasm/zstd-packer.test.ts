import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import { unzstd } from "../../src/host/format/zstd.ts";
import { ZstdPacker } from "../../src/wasm/zstd-packer.ts";
import { libzstd as zstd } from "../support/libzstd.ts";
import { mixed } from "../support/mixed.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

beforeAll(() => zstd.init());

const MOST = 600_000;
const packer = new ZstdPacker(MOST);
const random = new Random(Number(process.env.PARAVANE_SEED ?? 31));

/** Packs the bytes; both decoders make the same of it. Returns how many there were. */
function packed(bytes: Uint8Array, what: unknown): number {
  const frame = packer.pack(bytes);
  expect([what, Buffer.compare(zstd.decompress(frame), bytes)]).toEqual([what, 0]);
  expect([what, Buffer.compare(unzstd(frame, bytes.length), bytes)]).toEqual([what, 0]);
  // What cannot be packed takes a block's header, and the frame's.
  expect(frame.length).toBeLessThanOrEqual(bytes.length + 3 * Math.ceil(bytes.length / 131072) + 12);
  return frame.length;
}

test("what is packed is unpacked by libzstd, and by the core", () => {
  for (let round = 0; round < tier(400, 20_000); round++) {
    const length = random.pick([random.below(40), random.below(3000), random.below(70_000), 65536]);
    packed(mixed(random, random.oneIn(12) ? random.below(MOST) : length), round);
  }
});

test("every length up to a hundred, and around each that a header's size changes at", () => {
  const near = [255, 256, 1023, 1024, 4095, 4096, 16383, 16384, 65791, 65792, 131071, 131072, 131073, 262144, MOST];
  for (const kind of [() => 7, () => random.below(256), () => random.below(3)]) {
    const bytes = new Uint8Array(MOST).map(kind);
    for (let length = 0; length < 100; length++) packed(bytes.subarray(0, length), length);
    for (const length of near) packed(bytes.subarray(0, length), length);
  }
});

test("literals whose rarest would have codes longer than 11 bits, and those that are almost even", () => {
  for (const most of [2, 3, 12, 13, 16, 22]) {
    // Counts that grow as fast as makes a code the deepest; without repeats, as far as that goes.
    const letters: number[] = [];
    for (let i = 0, [a, b] = [1, 1]; i < most; i++, [a, b] = [b, a + b])
      for (let k = 0; k < a; k++) letters.push(i * 11);
    for (let i = letters.length - 1; i > 0; i--) {
      const other = random.below(i + 1);
      [letters[i], letters[other]] = [letters[other], letters[i]];
    }
    packed(Uint8Array.from(letters), most);
  }
  for (const kinds of [2, 127, 128, 129, 130, 200, 256]) {
    packed(
      new Uint8Array(40_000).map(() => Math.floor(random.below(kinds) * (random.oneIn(3) ? 0.3 : 1))),
      kinds,
    );
  }
});

test("it packs about as well as libzstd's first level, in units of an image", () => {
  const program = readFileSync(process.execPath).subarray(2 ** 24, 2 ** 24 + 40 * 65536);
  const text = readFileSync("package-lock.json");
  for (const bytes of [program, text, Buffer.from("the quick brown fox jumps over the lazy dog\n".repeat(9000))]) {
    let [ours, theirs] = [0, 0];
    for (let at = 0; at < bytes.length; at += 65536) {
      const unit = new Uint8Array(bytes.subarray(at, at + 65536));
      ours += packed(unit, at);
      theirs += zstd.compress(unit, 1).length;
    }
    expect(ours).toBeLessThan(theirs * 1.05);
  }
});
