import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { deflateSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { readBytes } from "../../../src/host/block/bytes.ts";
import { openDisk } from "../../../src/host/block/open.ts";
import { unpackAdc } from "../../../src/host/format/dmg/adc.ts";
import { bunzip } from "../../../src/host/format/dmg/bunzip.ts";
import { dmg } from "../../../src/host/format/dmg/index.ts";
import { unlzfse } from "../../../src/host/format/dmg/lzfse.ts";
import { unxz } from "../../../src/host/format/dmg/xz.ts";
import { unzlib } from "../../../src/host/format/inflate.ts";
import { parsePlist } from "../../../src/host/format/plist.ts";
import { KeptStore } from "../../support/disks.ts";
import { peerTest } from "../../support/peers.ts";
import { type DmgPart, dmgImage, dmgParts, mixed } from "../../support/read-only.ts";

const open = (bytes: Uint8Array) => openDisk(new KeptStore(bytes), { readOnly: true });
const text = (value: string) => new TextEncoder().encode(value);
const outcome = (bytes: Uint8Array) =>
  openDisk(new KeptStore(bytes), { readOnly: true, format: "dmg" }).then(
    () => "opened",
    ({ code, message }) => `${code}: ${message}`,
  );
const zeros = (size: number): DmgPart => ({ method: 0, size });
const TEXT = text(`${"to be or not to be ".repeat(12)}${"z".repeat(700)}${"abab".repeat(9)}`);
/** The same, by bzip2 1.0.8 -1. */
const BZ2 = "QlpoMTFBWSZTWe89KmgAAHgRiMAAMgGUEAAQAAggAFCAaaaApUhpk0yL0s1NFj7UNQ0LHQuiyLBbLYvO6nGOF+LuSKcKEh3npU0A";
const bz2 = () => new Uint8Array(Buffer.from(BZ2, "base64"));

describe("bzip2", () => {
  test("the program's own output", () => {
    expect(bunzip(bz2(), TEXT.length)).toEqual(TEXT);
    const empty = new Uint8Array([0x42, 0x5a, 0x68, 0x39, 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, 0, 0, 0, 0]);
    expect(bunzip(empty, 0)).toEqual(new Uint8Array(0));
  });

  test("more or fewer bytes than were asked for are refused, before they are held", () => {
    expect(() => bunzip(bz2(), TEXT.length - 1)).toThrow(/more than 963 bytes/);
    expect(() => bunzip(bz2(), TEXT.length + 1)).toThrow(/ends after 964 bytes/);
  });

  test("each damaged bit is found, or is one that nothing depends on", () => {
    const packed = bz2();
    let found = 0;
    for (let bit = 32; bit < packed.length * 8; bit++) {
      const damaged = packed.slice();
      damaged[bit >> 3] ^= 0x80 >> (bit & 7);
      try {
        expect(bunzip(damaged, TEXT.length), `bit ${bit}`).toEqual(TEXT);
      } catch (thrown) {
        expect(thrown, `bit ${bit}`).toBeInstanceOf(RangeError);
        found++;
      }
    }
    expect(found).toBeGreaterThan((packed.length - 4) * 8 - 24);
    for (let cut = 0; cut < packed.length; cut++) expect(() => bunzip(packed.subarray(0, cut), TEXT.length)).toThrow();
  });
});

describe("zlib", () => {
  const packed = deflateSync(TEXT);

  test("has to end with the last byte, and to have its checksum", () => {
    expect(unzlib(packed, TEXT.length)).toEqual(TEXT);
    expect(unzlib(Buffer.concat([packed, text("what follows")]), TEXT.length)).toEqual(TEXT);
    expect(() => unzlib(packed, TEXT.length - 1)).toThrow(/more than 963 bytes/);
    expect(() => unzlib(packed, TEXT.length + 1)).toThrow(/ends after 964/);
    expect(() => unzlib(packed.subarray(0, -1), TEXT.length)).toThrow(/checksum is not there/);
    for (let i = 0; i < packed.length; i++) {
      const damaged = packed.slice();
      damaged[i] ^= 0x11;
      expect(() => unzlib(damaged, TEXT.length), `byte ${i}`).toThrow(RangeError);
    }
  });

  test("stored blocks, and none", () => {
    const stored = deflateSync(TEXT, { level: 0 });
    expect(unzlib(stored, TEXT.length)).toEqual(TEXT);
    expect(() => unzlib(stored, TEXT.length - 1)).toThrow(/more than/);
    expect(unzlib(deflateSync(new Uint8Array(0)), 0)).toEqual(new Uint8Array(0));
  });
});

describe("ADC", () => {
  test("bytes as they are, near and far copies, and copies of themselves", () => {
    const packed = [0x83, ...text("abcd"), 0x0c, 0x03, 0x46, 0x00, 0x00, 0x80, 0x21, 0x40, 0x00, 0x14];
    // 4 bytes; 6 from 4 back; 10 from 1 back; one; 4 from 21 back.
    expect(new TextDecoder().decode(unpackAdc(Uint8Array.from(packed), 25))).toBe("abcdabcdabbbbbbbbbbb!abcd");
    expect(() => unpackAdc(Uint8Array.from(packed), 24)).toThrow(/more than 24/);
    expect(() => unpackAdc(Uint8Array.from(packed), 26)).toThrow(/ends after 25/);
    expect(() => unpackAdc(Uint8Array.from([0x00, 0x00]), 3)).toThrow(/before the start/);
    for (let cut = 0; cut < packed.length; cut++) {
      expect(() => unpackAdc(Uint8Array.from(packed.slice(0, cut)), 25)).toThrow(RangeError);
    }
  });

  test("in an image", async () => {
    const content = new Uint8Array(1024);
    content.set(text("abcdabcdabcd"));
    const packed = Uint8Array.from([
      0x83,
      ...text("abcd"),
      0x14,
      0x03,
      0x80,
      0,
      ...Array(15).fill([0x7f, 0, 0]).flat(),
      0x40 + 62,
      0,
      0,
    ]);
    const made = 12 + 1 + 15 * 67 + 66;
    expect(made).toBeGreaterThan(1024);
    const exact = Uint8Array.from([...packed.subarray(0, -3), 0x40 + (1024 - 12 - 1 - 15 * 67 - 4), 0, 0]);
    const disk = await open(dmgImage([{ method: 0x80000004, size: 1024, packed: exact }]));
    expect(await readBytes(disk, 0, 1024)).toEqual(content);
    expect(disk.describe()).toMatchObject({ compression: ["ADC"] });
  });
});

describe("LZFSE", () => {
  // Made of this repository's LICENSE, whole and its first 3,000 bytes, by Apple's lzfse -encode.
  const data = (name: string) => new Uint8Array(readFileSync(new URL(`../../data/${name}`, import.meta.url)));
  const license = new Uint8Array(readFileSync(new URL("../../../LICENSE", import.meta.url)));
  const [whole, start] = [data("license.lzfse"), data("license-3000.lzvn")];
  const block = (stream: Uint8Array) => stream.subarray(0, -4);
  const raw = (bytes: Uint8Array) => [...text("bvx-"), bytes.length, 0, 0, 0, ...bytes];
  const join = (...parts: ArrayLike<number>[]) => Uint8Array.from(parts.flatMap((part) => [...Array.from(part)]));

  test("what Apple's encoder makes: coded blocks, LZVN, and bytes as they are", () => {
    expect([text("bvx2"), text("bvxn")]).toEqual([whole.slice(0, 4), start.slice(0, 4)]);
    expect(Buffer.compare(unlzfse(whole, license.length), license)).toBe(0);
    expect(Buffer.compare(unlzfse(start, 3000), license.subarray(0, 3000))).toBe(0);
    const all = join(block(start), raw(text("between")), block(whole), text("bvx$"));
    const made = join(license.subarray(0, 3000), text("between"), license);
    expect(Buffer.compare(unlzfse(all, made.length), made)).toBe(0);
  });

  test("in an image", async () => {
    const size = 11_264;
    const content = license.subarray(0, size);
    expect(content.length).toBe(size);
    const packed = join(
      block(start),
      text("bvx-"),
      new Uint8Array(Uint32Array.of(size - 3000).buffer),
      content.subarray(3000),
    );
    const disk = await open(dmgImage([{ method: 0x80000007, size, packed: join(packed, text("bvx$")) }]));
    expect(Buffer.compare(await readBytes(disk, 0, size), content)).toBe(0);
    expect(disk.describe()).toMatchObject({ compression: ["LZFSE"] });
  });

  test.each([
    ["another length", whole, license.length + 1, /unpacks to \d+ bytes, not/],
    ["a shorter one", whole, 3000, /more than 3000 bytes/],
    ["no block that is known", text("bvx9\0\0\0\0"), 8, /no block that is known/],
    ["a cut", whole.subarray(0, 900), license.length, /passes the end/],
  ] as const)("%s is refused", (_, packed, size, message) => {
    expect(() => unlzfse(packed, size)).toThrow(message);
  });
});

describe("LZMA", () => {
  const packed = new Uint8Array(readFileSync(new URL("../../data/license.xz", import.meta.url)));
  const license = new Uint8Array(readFileSync(new URL("../../../LICENSE", import.meta.url)));
  const at = (place: number) => {
    const copy = packed.slice();
    copy[place < 0 ? copy.length + place : place] ^= 1;
    return copy;
  };

  test("what xz makes; what is damaged is told by the checksums", () => {
    expect(Buffer.compare(unxz(packed, license.length), license)).toBe(0);
    const footer = 12;
    const index = 16;
    for (const [damaged, message] of [
      [at(0), /no xz stream/],
      [at(7), /checksum of its header/],
      [at(14), /checksum of a block's header/],
      [at(-footer - index - 1), /checksum of a block is wrong/],
      [packed.subarray(0, 900), /cut off/],
    ] as const) {
      expect(() => unxz(damaged, license.length)).toThrow(message);
    }
    expect(() => unxz(packed, license.length - 1)).toThrow(/more than/);
    expect(() => unxz(packed, license.length + 1)).toThrow(/unpacks to \d+ bytes, not/);
  });

  peerTest("xz", "xz-utils", "in an image, by any settings", async () => {
    const content = mixed(1 << 20);
    for (const settings of [[], ["-9e"], ["-1", "-C", "crc32"], ["-C", "none"], ["--lzma2=lc=0,lp=2,pb=4,dict=4096"]]) {
      const parts: DmgPart[] = [];
      for (let from = 0; from < content.length; from += 262_144) {
        const input = content.subarray(from, from + 262_144);
        const bytes = execFileSync("xz", ["-c", ...settings], { input });
        parts.push({ method: 0x80000008, size: input.length, packed: new Uint8Array(bytes) });
      }
      const disk = await open(dmgImage(parts));
      expect(Buffer.compare(await readBytes(disk, 0, content.length), content)).toBe(0);
      expect(disk.describe()).toMatchObject({ compression: ["LZMA"] });
    }
    const other = execFileSync("xz", ["-c", "--x86", "--lzma2=preset=6"], { input: content });
    expect(() => unxz(new Uint8Array(other), content.length)).toThrow(/more filters than LZMA2/);
  });
});

describe("what an image must not be", () => {
  test.each([
    ["a method that is not known", [{ method: 9, size: 512, packed: text("x") }], /UNSUPPORTED: .*method 0x9/],
    [
      "more than 64 MiB at once",
      [{ method: 0x80000005, size: 2 ** 27, packed: text("x") }],
      /CORRUPT: .*unpacks 134217728/,
    ],
    ["raw data of another length", [{ method: 1, size: 1024, packed: text("x") }], /CORRUPT: .*1 bytes for the 1024/],
    ["packed data of no bytes", [{ method: 0x80000005, size: 512 }], /CORRUPT: .*0 bytes/],
    ["a disk past all numbers", [zeros(2 ** 62), zeros(512)], /CORRUPT: .*at byte/],
  ] as [string, DmgPart[], RegExp][])("%s", async (_, parts, message) => {
    expect(await outcome(dmgImage(parts))).toMatch(message);
  });

  test("a bomb costs no more than the chunk says", async () => {
    const bomb = deflateSync(new Uint8Array(2 ** 24));
    const disk = await open(dmgImage([{ method: 0x80000005, size: 512, packed: bomb }]));
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("more than 512 bytes"),
      context: { structure: "chunk", offset: 0 },
    });
  });

  test("a gap between chunks, or two for one place", async () => {
    const image = dmgImage(dmgParts(mixed(1 << 20)), { tables: 2, fork: true });
    const second = Buffer.from(image).lastIndexOf("mish");
    const moved = image.slice();
    const view = new DataView(moved.buffer);
    const at = view.getBigUint64(second + 8);
    view.setBigUint64(second + 8, at + 1n);
    expect(await outcome(moved)).toMatch(/CORRUPT: .*no chunk for byte 524288 /);
    view.setBigUint64(second + 8, at - 1n);
    expect(await outcome(moved)).toMatch(/CORRUPT: .*two chunks for byte 523776 /);
  });

  test("one of several segments; another version; a data fork that ends past the file", async () => {
    const image = dmgImage([zeros(512)]);
    const with32 = (offset: number, value: number) => {
      const copy = image.slice();
      new DataView(copy.buffer).setUint32(copy.length - 512 + offset, value);
      return outcome(copy);
    };
    expect(await with32(60, 3)).toMatch(/UNSUPPORTED: .*one of 3 segments/);
    expect(await with32(4, 5)).toMatch(/UNSUPPORTED: .*version 5/);
    expect(await with32(32, 9)).toMatch(/CORRUPT: .*koly trailer puts/);
    expect(await with32(228, 0)).toMatch(/CORRUPT: .*neither a property list/);
    expect(await with32(224, 1)).toMatch(/CORRUPT: /);
  });
});

test("check finds chunks that do not unpack, and a wrong checksum", () => {
  const image = dmgImage(dmgParts(mixed(1 << 20)));
  expect(run(dmg.check!(new KeptStore(image)))).toMatchObject({ corruptions: 0 });
  const damaged = image.slice();
  damaged[100] ^= 1;
  const report = run(dmg.check!(new KeptStore(damaged))) as CheckReport;
  expect(report.problems.map(({ structure }) => structure)).toEqual(["chunk", "data fork"]);
});

test("property lists are read strictly", () => {
  const list = (body: string) => parsePlist(`<?xml version="1.0"?>\n<!-- a --><plist version='1.0'>${body}</plist>\n`);
  expect(
    list(
      "<dict><key>a</key><array><integer>7</integer><true/><data>AQI=</data></array><key>&lt;</key><string/></dict>",
    ),
  ).toEqual(
    new Map<string, unknown>([
      ["a", [7, true, Uint8Array.from([1, 2])]],
      ["<", ""],
    ]),
  );
  for (const [body, message] of [
    ["<dict><string>a</string></dict>", /stands for a key/],
    ["<dict><key>a</key></dict>", /no value/],
    ["<dict><key>a</key><true/><key>a</key><true/></dict>", /twice/],
    ["<data>A</data>", /base64/],
    ["<data>A*==</data>", /base64/],
    ["<string>a<true/></string>", /both text/],
    ["<string><true/></string>", /holds elements/],
    ["<integer>x</integer>", /no number/],
    ["<array>x</array>", /holds text/],
    ["<true/><true/>", /no property list/],
    ['<string a="b"></string>', /attributes/],
    ["<object/>", /no <object>/],
  ] as const)
    expect(() => list(body), body).toThrow(message);
  expect(() => parsePlist('<!DOCTYPE plist [<!ENTITY a "b">]><plist><true/></plist>')).toThrow(/type definition/);
  expect(() => parsePlist("<html/>")).toThrow(/no property list/);
});
