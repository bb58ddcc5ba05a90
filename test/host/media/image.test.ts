import { expect, test } from "vitest";
import { Status } from "../../../src/core/block.ts";
import { run } from "../../../src/core/flow.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { cdFromBlock } from "../../../src/host/media/image.ts";
import { readRaw, readUser } from "../../../src/host/media/read.ts";
import { RAW } from "../../../src/host/media/sector.ts";
import { sectors, segmentsOf } from "../../support/disc.ts";
import { FakeBlock } from "../../support/fake-block.ts";
import { SparseBlock } from "../../support/sparse-block.ts";

test("an image whose size is no whole number of sectors ends in zeros", () => {
  const block = new FakeBlock(2048 * 3 + 512);
  block.bytes.set(sectors(4, 2048).subarray(0, block.size));
  const disc = cdFromBlock(block);
  expect([disc.kind, disc.sectors]).toEqual(["cd", 4]);
  const bytes = new Uint8Array(4096 + 2).fill(0xee);
  const split = new SegmentList();
  split.push(0, 3);
  split.push(5, 4093);
  run(readUser(disc, 2, 2, bytes, split));
  const got = [...bytes.subarray(0, 3), ...bytes.subarray(5)];
  expect(got.slice(0, 2560)).toEqual([...block.bytes.subarray(4096)]);
  expect(got.slice(2560).every((byte) => byte === 0)).toBe(true);
  expect([bytes[3], bytes[4]]).toEqual([0xee, 0xee]);
});

test("what is larger than a CD is a DVD, beyond 4 GiB too", () => {
  expect(cdFromBlock(new SparseBlock(838_860_800)).kind).toBe("cd");
  expect(cdFromBlock(new SparseBlock(838_860_800 + 2048)).kind).toBe("dvd");
  const dvd = cdFromBlock(new SparseBlock(8_500_000_768));
  expect([dvd.kind, dvd.sectors]).toEqual(["dvd", Math.ceil(8_500_000_768 / 2048)]);
  expect(cdFromBlock(new SparseBlock(1 << 30), { kind: "cd" }).kind).toBe("cd");
});

test("what cannot be a disc is refused", () => {
  expect(() => cdFromBlock(new FakeBlock(0))).toThrow(/no disc/);
  expect(() => cdFromBlock(new FakeBlock(8192, { sectorSize: 4096 }))).toThrow(/4096-byte sectors/);
  expect(() => cdFromBlock(new SparseBlock(2048 * 2 ** 32))).toThrow(/2\^32 sectors/);
  expect(() => cdFromBlock(new FakeBlock(2352 * 512), { kind: "dvd", form: "audio" })).toThrow(/DVD/);
});

test("raw sectors in a block, wherever they start", () => {
  const block = new FakeBlock(Math.ceil((9 * RAW) / 512) * 512);
  block.bytes.set(sectors(9, RAW));
  const disc = cdFromBlock(block, { form: "mode1/2352" });
  const user = new Uint8Array(2 * 2048);
  run(readUser(disc, 3, 2, user, segmentsOf(4096)));
  expect(user.slice(2048)).toEqual(block.bytes.slice(4 * RAW + 16, 4 * RAW + 16 + 2048));
});

test("a failure names its sector, and what came before it is there", () => {
  const block = new FakeBlock(2048 * 40);
  block.bytes.set(sectors(40, 2048));
  block.fault = ({ offset, length }) => (offset <= 17 * 2048 && offset + length > 17 * 2048 ? Status.Media : Status.Ok);
  const disc = cdFromBlock(block);
  const bytes = new Uint8Array(30 * 2048);
  expect(() => run(readUser(disc, 2, 30, bytes, segmentsOf(bytes.length)))).toThrow(
    expect.objectContaining({ code: "MEDIA", lba: 17 }),
  );
  expect(bytes.slice(0, 15 * 2048)).toEqual(block.bytes.slice(2 * 2048, 17 * 2048));
  expect(() => run(readRaw(disc, 10, 10))).toThrow(expect.objectContaining({ code: "MEDIA", lba: 17 }));
});
