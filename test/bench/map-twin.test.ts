import { describe, expect, test } from "vitest";
import { CacheField, MapField, MapLimit, TagField } from "../../assembly/spec/map.ts";
import { TwinMapper } from "../../bench/twin/map.ts";
import { ExtentKind, MapStop } from "../../src/core/format.ts";
import { CoreMapper } from "../../src/wasm/map.ts";
import { Random } from "../support/random.ts";

// The bench compares the core with this twin: a comparison is honest only if both do the same work, down to the cache.

const KIB = 1024;

/** A page of table entries: mostly places, some holes, now and then nonsense. */
function entries(
  random: Random,
  page: Uint8Array,
  bytes: 4 | 8,
  unit: number,
  base: number,
  limit: number,
  step: number,
) {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  let place = base + random.below(64) * step;
  for (let at = 0; at < page.length; at += bytes) {
    // Runs of neighbours, so that there is something to coalesce.
    place = random.oneIn(3) ? base + random.below((limit - base) / step) * step : place + step;
    let value = BigInt(Math.floor(place / unit));
    if (random.oneIn(8)) value = bytes === 4 ? 0xffffffffn : 0n;
    if (random.oneIn(40)) value = BigInt(random.u32());
    if (bytes === 4) view.setUint32(at, Number(value & 0xffffffffn));
    else view.setBigUint64(at, value | (random.oneIn(2) ? 1n << 63n : 0n));
  }
}

function bitmap(random: Random, page: Uint8Array) {
  page.fill(random.oneIn(2) ? 0xff : 0);
  for (let left = random.below(6); left > 0; left--) {
    const start = random.below(page.length);
    page.fill(random.pick([0, 0xff, random.u32() & 0xff]), start, start + random.below(64));
  }
}

function fillPages(mapper: CoreMapper, random: Random, level: 0 | 1, pages: number, fill: (page: Uint8Array) => void) {
  for (let number = 0; number < pages; number++) {
    if (random.oneIn(10)) continue; // a miss later
    const key = number * 2 + level;
    const at = mapper.claimPage(key);
    fill(mapper.memory.subarray(at, at + mapper.pageBytes(key)));
    mapper.commitPage(key, at);
  }
}

interface Case {
  mapper: CoreMapper;
  size: number;
}

function vhd(random: Random): Case {
  const block = 2048 * KIB;
  const blocks = 512;
  const base = 8 * KIB;
  const limit = base + blocks * (block + 512);
  const hole = random.pick([ExtentKind.Zero, ExtentKind.Backing]);
  const bitmapped = !random.oneIn(4);
  const mapper = new CoreMapper({
    kind: "table",
    hole,
    base,
    limit,
    blockBytes: block,
    table: {
      position: 1536,
      length: blocks * 4,
      entries: { bytes: 4, bigEndian: true, mask: 0xffffffffn, absent: 0xffffffffn, unit: 512, data: 512 },
      cache: { pageBytes: 512, maxBytes: 64 * KIB },
    },
    ...(bitmapped ? { bitmap: { bytes: 512, bytesPerBit: 512, cache: { pageBytes: 512, maxBytes: 128 * KIB } } } : {}),
  });
  fillPages(mapper, random, 0, 4, (page) => entries(random, page, 4, 512, base, limit, block + 512));
  if (bitmapped) fillPages(mapper, random, 1, blocks, (page) => bitmap(random, page));
  return { mapper, size: blocks * block };
}

function tree(random: Random): Case {
  const cluster = 64 * KIB;
  const base = cluster;
  const leaves = 4;
  const limit = 4096 * cluster;
  const layout = { bytes: 8, bigEndian: true, mask: 0x00fffffffffffe00n, absent: 0n, unit: 1 } as const;
  const mapper = new CoreMapper({
    kind: "tree",
    hole: random.pick([ExtentKind.Zero, ExtentKind.Backing]),
    base,
    limit,
    blockBytes: cluster,
    table: { position: cluster, length: leaves * 8, entries: layout, cache: { pageBytes: 512, maxBytes: 4 * KIB } },
    leaf: { bytes: cluster, entries: layout, cache: { pageBytes: 4 * KIB, maxBytes: 512 * KIB } },
  });
  fillPages(mapper, random, 0, 1, (page) => entries(random, page, 8, 1, 2 * cluster, limit, cluster));
  fillPages(mapper, random, 1, 64, (page) => entries(random, page, 8, 1, 2 * cluster, limit, cluster));
  return { mapper, size: leaves * (cluster / 8) * cluster };
}

function flat(random: Random): Case {
  const limit = 512 * (1000 + random.below(1000));
  return { mapper: new CoreMapper({ kind: "flat", hole: ExtentKind.Zero, base: 512, limit }), size: limit };
}

/** The bytes that both must leave alike: answers, ranges, and both caches with their clocks and counts. */
function visible(memory: Uint8Array, stop: MapStop): Record<string, string> {
  const words = new Uint32Array(memory.buffer, memory.byteOffset, memory.length / 4);
  const doubles = new Float64Array(memory.buffer, memory.byteOffset, memory.length / 8);
  const count = words[MapField.ExtentCount / 4];
  const tags = (cache: number) => {
    const ways = (words[(cache + CacheField.SetMask) / 4] + 1) * MapLimit.Ways;
    const at = words[(cache + CacheField.Tags) / 4];
    return [...words.subarray(at / 4, at / 4 + (ways * TagField.Size) / 4)].join();
  };
  const cache = (at: number) => words.subarray(at / 4, (at + CacheField.Size) / 4).join();
  const stopped = stop !== MapStop.Done;
  return {
    extents: words.subarray(MapField.Extents / 4, (MapField.Extents + count * 24) / 4).join(),
    ranges: words.subarray(MapField.Ranges / 4, MapField.Extents / 4).join(),
    top: cache(MapField.TopCache),
    leaf: cache(MapField.LeafCache),
    tags: words[MapField.Kind / 4] === 0 ? "" : tags(MapField.TopCache) + tags(MapField.LeafCache),
    stop: [
      stop,
      stopped && words[MapField.StopRange / 4],
      stopped && doubles[MapField.StopOffset / 8],
      stop === MapStop.Allocate && doubles[MapField.StopLength / 8],
      stop === MapStop.Miss && words[MapField.StopKey / 4],
      (stop === MapStop.Miss || stop === MapStop.Corrupt) && doubles[MapField.StopPosition / 8],
    ].join(),
  };
}

describe.each([
  ["flat", flat, 20, 20],
  ["table", vhd, 25, 80],
  ["tree", tree, 25, 80],
] as const)("map twin: %s", (_, make, images, batches) => {
  test("says and keeps what the core says and keeps", () => {
    const ends = new Set<number>();
    for (let seed = 1; seed <= images; seed++) {
      const random = new Random(seed);
      const { mapper, size } = make(random);
      const twin = TwinMapper.of(mapper.memory);
      for (let batch = 0; batch < batches; batch++) {
        const count = random.oneIn(2) ? 1 : 1 + random.below(32);
        for (let i = 0; i < count; i++) {
          const longest = random.pick([4 * KIB, 64 * KIB, 1024 * KIB, 8192 * KIB]);
          const length = 512 * random.below(longest / 512 + 1);
          const offset = 512 * random.below(Math.max(1, (size - length) / 512));
          const write = random.oneIn(10);
          mapper.setRange(i, offset, length, write);
          twin.setRange(i, offset, length, write);
        }
        const stop = mapper.resolve(count);
        expect(twin.resolve(count)).toBe(stop);
        const memory = new Uint8Array(twin.f64.buffer);
        expect(visible(memory, stop)).toEqual(visible(mapper.memory, stop));
        ends.add(stop);
      }
    }
    // Every way to end is reached, so the comparison covers them.
    if (make !== flat) expect([...ends]).toEqual(expect.arrayContaining([0, 2, 3, 4]));
  });
});
