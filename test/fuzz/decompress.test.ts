import { readFileSync } from "node:fs";
import { deflateRawSync } from "node:zlib";
import { expect, test } from "vitest";
import { unlzfse } from "../../src/host/format/dmg/lzfse.ts";
import { unlzma2 } from "../../src/host/format/dmg/lzma2.ts";
import { unxz } from "../../src/host/format/dmg/xz.ts";
import { inflate } from "../../src/host/format/inflate.ts";
import { unzstd } from "../../src/host/format/zstd.ts";
import { nativeInflate } from "../../src/node/decompress.ts";
import { dataFile } from "../support/data.ts";
import { Random } from "../support/random.ts";

const ROUNDS = 2500;

/** The zstd frames of a real image. */
function frames(): Uint8Array[] {
  const image = dataFile("dissect-qcow2_basic-zstd.qcow2");
  const found: Uint8Array[] = [];
  for (let at = 0; at + 4 < image.length && found.length < 30; at++) {
    if (image[at] === 0x28 && image[at + 1] === 0xb5 && image[at + 2] === 0x2f && image[at + 3] === 0xfd) {
      found.push(image.slice(at, at + 6000));
    }
  }
  return found;
}

function mixed(random: Random): Uint8Array {
  const bytes = new Uint8Array(4096 + random.below(60000));
  for (let at = 0; at < bytes.length; ) {
    const run = 1 + random.below(300);
    const kind = random.below(3);
    for (let i = 0; i < run && at < bytes.length; i++, at++) {
      bytes[at] = kind === 0 ? random.u32() : kind === 1 ? at >> 8 : bytes[Math.max(0, at - 200)];
    }
  }
  return bytes;
}

/** A coded block of 4,096 bytes with a head, as bytes are, that makes 65,536 of it; and LZVN. */
const LZFSE = ["license.lzfse", "license-3000.lzvn"].flatMap((name) => {
  const stream = new Uint8Array(readFileSync(new URL(`../data/${name}`, import.meta.url)));
  const length = new DataView(stream.buffer, stream.byteOffset).getUint32(4, true);
  return [4096, 65536].flatMap((size) => {
    if (size < length) return [];
    const head = new Uint8Array(8 + size - length);
    head.set(new TextEncoder().encode("bvx-"));
    new DataView(head.buffer).setUint32(4, size - length, true);
    return [new Uint8Array([...head, ...stream])];
  });
});

const native = nativeInflate(false) as (bytes: Uint8Array, size: number) => Uint8Array;
const deflated = (random: Random) => new Uint8Array(deflateRawSync(mixed(random), { level: random.below(10) }));

test.each([
  ["inflate", inflate, deflated],
  ["the host's inflate", native, deflated],
  ["unzstd", unzstd, (random: Random) => random.pick(frames())],
  ["unlzfse", unlzfse, (random: Random) => random.pick(LZFSE)],
] as const)("%s of damaged data: the right length, or a RangeError", (_name, decompress, make) => {
  const random = new Random(77);
  let fine = 0;
  let refused = 0;
  let good = make(random);
  for (let round = 0; round < ROUNDS; round++) {
    if (round % 20 === 0) good = make(random);
    const bytes = good.slice(0, random.oneIn(10) ? random.below(good.length) : good.length);
    for (let i = random.below(4); i > 0; i--) {
      // Headers matter most.
      const at = random.oneIn(2) ? random.below(Math.min(40, bytes.length + 1)) : random.below(bytes.length + 1);
      if (at < bytes.length) bytes[at] = random.oneIn(2) ? random.u32() : bytes[at] ^ (1 << random.below(8));
    }
    const size = random.pick([4096, 65536, 1, 2 ** 21]);
    try {
      expect(decompress(bytes, size).length).toBe(size);
      fine++;
    } catch (thrown) {
      if (!(thrown instanceof RangeError)) throw new Error(`round ${round}`, { cause: thrown });
      refused++;
    }
  }
  console.log({ fine, refused });
  expect(fine).toBeGreaterThan(100);
  expect(refused).toBeGreaterThan(100);
});

test("xz, and the LZMA2 in it, which has no checksum: what it was, or a RangeError", () => {
  const random = new Random(79);
  const packed = new Uint8Array(readFileSync(new URL("../data/license.xz", import.meta.url)));
  const license = new Uint8Array(readFileSync(new URL("../../LICENSE", import.meta.url)));
  const counts = { right: 0, refused: 0, chunks: 0 };
  for (let round = 0; round < 1500; round++) {
    const bytes = packed.slice(0, random.oneIn(10) ? random.below(packed.length) : packed.length);
    for (let i = random.below(3); i > 0 && bytes.length > 0; i--) {
      const at = random.below(random.oneIn(2) ? Math.min(40, bytes.length) : bytes.length);
      bytes[at] = random.oneIn(2) ? random.u32() : bytes[at] ^ (1 << random.below(8));
    }
    const refused = (work: () => void) => {
      try {
        work();
        return false;
      } catch (thrown) {
        if (!(thrown instanceof RangeError)) throw new Error(`round ${round}`, { cause: thrown });
        return true;
      }
    };
    const wrong = refused(() => {
      // The block's checksum stands for what is in it; the index behind it is not looked at.
      expect(Buffer.compare(unxz(bytes, license.length), license)).toBe(0);
      counts.right++;
    });
    if (wrong) counts.refused++;
    // Behind the headers of the stream and of its block.
    if (!refused(() => unlzma2(bytes, 24, new Uint8Array(random.pick([license.length, 2 ** 16, 100])), 0)))
      counts.chunks++;
  }
  expect(counts.right).toBeGreaterThan(300);
  expect(counts.refused).toBeGreaterThan(300);
  expect(counts.chunks).toBeGreaterThan(300);
});

test("the host's inflate and ours answer alike, in the thread pool too", async () => {
  const random = new Random(78);
  const pool = nativeInflate(true);
  const counts = { bytes: 0, errors: 0 };
  for (let round = 0; round < 600; round++) {
    const good = deflated(random);
    const bytes = random.oneIn(2) ? good : good.slice(0, random.below(good.length));
    if (random.oneIn(3)) bytes[random.below(bytes.length)] ^= 1 << random.below(8);
    // Image formats leave what was there before after the end.
    const stored = new Uint8Array([...bytes, ...crypto.getRandomValues(new Uint8Array(random.below(512)))]);
    for (const size of [4096, 65536]) {
      const answers = [inflate, native, pool].map(async (decompress) => decompress(stored, size));
      const [ours, ...hosts] = await Promise.allSettled(answers);
      for (const host of hosts) {
        if (ours.status === "rejected")
          expect(String((host as PromiseRejectedResult).reason)).toBe(String(ours.reason));
        else expect(Buffer.compare((host as PromiseFulfilledResult<Uint8Array>).value, ours.value)).toBe(0);
      }
      counts[ours.status === "rejected" ? "errors" : "bytes"]++;
    }
  }
  expect(counts.bytes).toBeGreaterThan(100);
  expect(counts.errors).toBeGreaterThan(100);
});
