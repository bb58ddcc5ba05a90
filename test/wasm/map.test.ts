import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ExtentKind, MapStop } from "../../src/core/format.ts";
import { CoreMapper, type EntryLayout } from "../../src/wasm/map.ts";

/** What the map must say, one sector after the other, worked out in the plainest way. */
interface Place {
  kind: ExtentKind;
  position: number;
}
type Oracle = (offset: number) => Place | "corrupt";

const SECTOR = 512;
const hole: Place = { kind: ExtentKind.Zero, position: 0 };

interface Case {
  mapper: CoreMapper;
  size: number;
  /** The bytes of metadata page at that position in the store. */
  store: Uint8Array;
  oracle: Oracle;
}

function entryOf(bytes: Uint8Array, index: number, { bytes: width, bigEndian }: EntryLayout): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (width === 4) return BigInt(view.getUint32(index * 4, !bigEndian));
  return view.getBigUint64(index * 8, !bigEndian);
}
function putEntry(bytes: Uint8Array, index: number, { bytes: width, bigEndian }: EntryLayout, value: bigint): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  if (width === 4) view.setUint32(index * 4, Number(value), !bigEndian);
  else view.setBigUint64(index * 8, value, !bigEndian);
}

/** Resolves ranges to the end, serving misses from the case's store; per range, what each sector was said to be. */
function resolve(subject: Case, ranges: [offset: number, length: number, write?: boolean][]) {
  const { mapper, store } = subject;
  const answers: Place[][] = ranges.map(() => []);
  for (const [index, [offset, length, write]] of ranges.entries())
    mapper.setRange(index, offset, length, write ?? false);
  for (let turn = 0; turn < 100_000; turn++) {
    const stop = mapper.resolve(ranges.length);
    let last = -1;
    for (let i = 0; i < mapper.extentCount; i++) {
      const range = mapper.extentRange(i);
      expect(range).toBeGreaterThanOrEqual(last);
      last = range;
      const kind = mapper.extentKind(i);
      for (let at = 0; at < mapper.extentLength(i); at += SECTOR) {
        answers[range].push({ kind, position: kind === ExtentKind.Data ? mapper.extentPosition(i) + at : 0 });
      }
    }
    if (stop === MapStop.Miss) {
      const at = mapper.claimPage(mapper.stopKey);
      const page = mapper.pageBytes(mapper.stopKey);
      mapper.memory.subarray(at, at + page).set(store.subarray(mapper.stopPosition, mapper.stopPosition + page));
      mapper.commitPage(mapper.stopKey, at);
    } else if (stop !== MapStop.Full) {
      return { stop, answers, range: mapper.stopRange, offset: mapper.stopOffset, length: mapper.stopLength };
    }
  }
  throw new Error("the map never ended");
}

/** Compares a resolve of random ranges with the oracle. */
function agrees(subject: Case, ranges: [number, number, boolean][]): void {
  const got = resolve(subject, ranges);
  for (const [index, [offset, length, write]] of ranges.entries()) {
    for (let at = 0; at < length; at += SECTOR) {
      const expected = subject.oracle(offset + at);
      if (expected === "corrupt") {
        expect([got.stop, got.range, got.offset]).toEqual([MapStop.Corrupt, index, offset + at]);
        return;
      }
      if (write && expected.kind !== ExtentKind.Data) {
        expect([got.stop, got.range, got.offset]).toEqual([MapStop.Allocate, index, offset + at]);
        // Everything it says has no place has none; how far it looks may end where metadata is not cached.
        expect(got.length).toBeGreaterThan(0);
        for (let more = 0; more < got.length; more += SECTOR) {
          const place = subject.oracle(got.offset + more);
          expect(place === "corrupt" ? place : place.kind).not.toBe(ExtentKind.Data);
        }
        return;
      }
      expect(got.answers[index][at / SECTOR]).toEqual(expected);
    }
    expect(got.answers[index].length).toBe(length / SECTOR);
  }
  expect(got.stop).toBe(MapStop.Done);
}

const LAYOUTS: Record<string, EntryLayout> = {
  vhd: { bytes: 4, bigEndian: true, mask: 0xffffffffn, absent: 0xffffffffn, unit: 512, data: 512 },
  vdi: { bytes: 4, bigEndian: false, mask: 0xffffffffn, absent: 0xffffffffn, zero: 0xfffffffen, unit: 4096, data: 0 },
  "8 bytes, flags": { bytes: 8, bigEndian: false, mask: 0xfffffffffff00000n >> 8n, absent: 0n, unit: 1, data: 0 },
  "8 bytes, big-endian": { bytes: 8, bigEndian: true, mask: 0x00fffffffffffe00n, absent: 0n, unit: 1, data: 0 },
};

/** A one-level map of `picks.length` blocks: each pick says absent, zero, a place, or an impossible one. */
function tableCase(layout: EntryLayout, picks: number[], bitmap: boolean, seed: number): Case {
  const block = 4096;
  const tablePosition = 1024;
  const length = picks.length * layout.bytes;
  const stride = 8192; // keeps every layout's unit whole
  const base = 65536;
  const limit = base + picks.length * stride;
  const store = new Uint8Array(limit);
  const data = bitmap ? 512 : (layout.data ?? 0);
  const entries = { ...layout, data };
  picks.forEach((pick, i) => {
    const place = BigInt(base + ((i * 7 + pick) % picks.length) * stride) / BigInt(layout.unit);
    const value =
      pick === 0
        ? layout.absent
        : pick === 1 && layout.zero !== undefined
          ? layout.zero
          : pick === 2
            ? BigInt(limit) / BigInt(layout.unit)
            : pick === 3
              ? BigInt(1024) / BigInt(layout.unit)
              : place;
    putEntry(store.subarray(tablePosition), i, layout, value);
  });
  for (let i = base; i < limit; i++) store[i] = Math.imul(i ^ seed, 0x9e3779b1) >>> 24;
  const mapper = new CoreMapper({
    kind: "table",
    hole: ExtentKind.Zero,
    base: 4096,
    limit,
    blockBytes: block,
    table: { position: tablePosition, length, entries, cache: { pageBytes: 64, maxBytes: 256 } },
    bitmap: bitmap ? { bytes: 512, bytesPerBit: SECTOR, cache: { pageBytes: 512, maxBytes: 2048 } } : undefined,
  });
  const oracle: Oracle = (offset) => {
    const index = Math.floor(offset / block);
    const value = entryOf(store.subarray(tablePosition), index, layout) & layout.mask;
    if (value === layout.absent) return hole;
    if (value === layout.zero) return hole;
    const start = Number(value) * layout.unit;
    const end = start + data + block;
    if (start < 4096 || end > limit || (start < tablePosition + length && end > tablePosition)) return "corrupt";
    const within = offset % block;
    const bit = within / SECTOR;
    if (bitmap && ((store[start + (bit >> 3)] >> (7 - (bit & 7))) & 1) === 0) return hole;
    return { kind: ExtentKind.Data, position: start + data + within };
  };
  return { mapper, size: picks.length * block, store, oracle };
}

/** A two-level map: leaf tables of 64 entries, clusters of 4 KiB. */
function treeCase(layout: EntryLayout, picks: number[]): Case {
  const block = 4096;
  const leafBytes = 64 * layout.bytes;
  const tops = Math.ceil(picks.length / 64);
  const tablePosition = 512;
  const leafAt = (top: number) => 8192 + top * 4096;
  const base = leafAt(tops + 1);
  const limit = base + picks.length * block;
  const store = new Uint8Array(limit);
  const unit = BigInt(layout.unit);
  for (let top = 0; top < tops; top++) {
    const pick = picks[top];
    const value = pick === 0 ? layout.absent : pick === 2 ? BigInt(limit) / unit : BigInt(leafAt(top)) / unit;
    putEntry(store.subarray(tablePosition), top, layout, value);
  }
  picks.forEach((pick, i) => {
    const value =
      pick === 0
        ? layout.absent
        : pick === 1 && layout.zero !== undefined
          ? layout.zero
          : pick === 2
            ? BigInt(limit) / unit
            : BigInt(base + (pick < 8 ? i : (i * 5) % picks.length) * block) / unit;
    putEntry(store.subarray(leafAt(Math.floor(i / 64))), i % 64, layout, value);
  });
  const mapper = new CoreMapper({
    kind: "tree",
    hole: ExtentKind.Zero,
    base: 4096,
    limit,
    blockBytes: block,
    table: {
      position: tablePosition,
      length: tops * layout.bytes,
      entries: layout,
      cache: { pageBytes: 64, maxBytes: 64 },
    },
    leaf: { bytes: leafBytes, entries: layout, cache: { pageBytes: 64, maxBytes: 512 } },
  });
  const placed = (start: number, length: number) => start >= 4096 && start + length <= limit;
  const oracle: Oracle = (offset) => {
    const index = Math.floor(offset / block);
    const top = entryOf(store.subarray(tablePosition), Math.floor(index / 64), layout) & layout.mask;
    if (top === layout.absent) return hole;
    const leaf = Number(top) * layout.unit;
    if (!placed(leaf, leafBytes)) return "corrupt";
    const value = entryOf(store.subarray(leaf), index % 64, layout) & layout.mask;
    if (value === layout.absent || value === layout.zero) return hole;
    const start = Number(value) * layout.unit;
    if (!placed(start, block)) return "corrupt";
    return { kind: ExtentKind.Data, position: start + (offset % block) };
  };
  return { mapper, size: picks.length * block, store, oracle };
}

/** Picks: mostly places, some holes, seldom corruption. */
const picks = (count: number) =>
  fc.array(
    fc.oneof(
      { arbitrary: fc.constantFrom(0, 1), weight: 3 },
      { arbitrary: fc.integer({ min: 4, max: 99 }), weight: 8 },
      { arbitrary: fc.constantFrom(2, 3), weight: 1 },
    ),
    {
      minLength: count,
      maxLength: count,
    },
  );
const ranges = (size: number) =>
  fc.array(
    fc
      .tuple(fc.nat(size / SECTOR - 1), fc.nat(64), fc.boolean())
      .map(([sector, sectors, write]): [number, number, boolean] => {
        const offset = sector * SECTOR;
        return [offset, Math.min(sectors * SECTOR, size - offset), write];
      }),
    { minLength: 1, maxLength: 20 },
  );
const BLOCKS = 200;
const config = { numRuns: 150, seed: 2 };

describe("the core agrees with the plain walk", () => {
  test.each(Object.entries(LAYOUTS))("one level: %s", (_name, layout) => {
    fc.assert(
      fc.property(picks(BLOCKS), ranges(BLOCKS * 4096), (blocks, list) =>
        agrees(tableCase(layout, blocks, false, 0), list),
      ),
      config,
    );
  });
  test("one level with sector bitmaps", () => {
    fc.assert(
      fc.property(picks(BLOCKS), fc.nat(), ranges(BLOCKS * 4096), (blocks, seed, list) =>
        agrees(tableCase(LAYOUTS.vhd, blocks, true, seed), list),
      ),
      config,
    );
  });
  test.each(Object.entries(LAYOUTS))("two levels: %s", (_name, layout) => {
    const leafless = { ...layout, data: 0 };
    fc.assert(
      fc.property(picks(BLOCKS), ranges(BLOCKS * 4096), (blocks, list) => agrees(treeCase(leafless, blocks), list)),
      config,
    );
  });
});

describe("runs", () => {
  test("are joined across blocks that lie together, and holes are joined", () => {
    const layout = LAYOUTS["8 bytes, big-endian"];
    const subject = treeCase(layout, new Array(BLOCKS).fill(4));
    resolve(subject, [[0, subject.size]]);
    subject.mapper.setRange(0, 4096, 100 * 4096, false);
    let stop = subject.mapper.resolve(1);
    while (stop === MapStop.Miss) {
      resolve(subject, [[subject.mapper.stopOffset, 512]]);
      subject.mapper.setRange(0, 4096, 8 * 4096, false);
      stop = subject.mapper.resolve(1);
    }
    expect(stop).toBe(MapStop.Done);
    expect(subject.mapper.extentCount).toBe(1);
    expect(subject.mapper.extentLength(0)).toBe(8 * 4096);
  });

  test("go on where the extent list was full", () => {
    // Every second sector present: 256 ranges of 8 extents each.
    const subject = tableCase(LAYOUTS.vhd, new Array(BLOCKS).fill(50), true, 0);
    subject.store.fill(0x55, 65536);
    const list = Array.from({ length: 256 }, (_, i): [number, number, boolean] => [(i % BLOCKS) * 4096, 4096, false]);
    agrees(subject, list);
  });

  test("offsets past 4 GiB and 2 TiB are exact", () => {
    const mapper = new CoreMapper({ kind: "flat", hole: ExtentKind.Zero, base: 2 ** 40 + 512, limit: 2 ** 46 });
    mapper.setRange(0, 2 ** 45 - 1024, 2048, true);
    expect(mapper.resolve(1)).toBe(MapStop.Done);
    expect(mapper.extentPosition(0)).toBe(2 ** 40 + 512 + 2 ** 45 - 1024);
    expect(mapper.extentLength(0)).toBe(2048);
  });
});

test("the cache replaces the page least recently used and counts", () => {
  const subject = tableCase(LAYOUTS.vhd, new Array(BLOCKS).fill(9), false, 0);
  const { mapper } = subject;
  // 64-byte pages of 16 entries; four of them fit, all in one set.
  const touch = (page: number) => {
    const before = mapper.cacheStatistics.misses;
    resolve(subject, [[page * 16 * 4096, 512]]);
    return mapper.cacheStatistics.misses > before;
  };
  for (const page of [0, 1, 2, 3]) expect(touch(page)).toBe(true);
  expect(touch(0)).toBe(false);
  expect(touch(4)).toBe(true); // in place of 1
  expect(touch(0)).toBe(false);
  expect(touch(1)).toBe(true);
  expect(mapper.cacheStatistics.hits).toBeGreaterThan(0);
});
