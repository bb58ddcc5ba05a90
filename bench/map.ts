import type { CoreMapper } from "../src/wasm/map.ts";
import type { Bench } from "./bench.ts";
import { DISK, treeMapper, vhdMapper } from "./fixture/map.ts";
import { randomFrom } from "./fixture/random.ts";
import { inProcess } from "./harness.ts";
import { native } from "./native.ts";
import { TwinMapper } from "./twin/map.ts";

const OFFSETS = 4096;
const SECTOR = 512;

interface Work {
  label: string;
  mapper: () => CoreMapper;
  /** Bytes of each range, and ranges a call. */
  length: number;
  batch: number;
  random: boolean;
}

/** Where the ranges start: at multiples of their length, in random order or one after the other. */
function offsets({ length, random }: Work): Float64Array {
  const next = randomFrom(3);
  const places = DISK / length;
  return Float64Array.from({ length: OFFSETS }, (_, i) => (random ? next(places) : i % places) * length);
}

/** One contestant's loop. Its own copy for each, so that none compiles the other's types into its calls. */
function looper(work: Work, starts: Float64Array): (mapper: CoreMapper | TwinMapper, operations: number) => number {
  const source = `
    const { length, batch } = work;
    return (mapper, operations) => {
      let sum = 0;
      let next = 0;
      for (let done = 0; done < operations; done += batch) {
        for (let i = 0; i < batch; i++) {
          mapper.setRange(i, starts[next], length, false);
          next = (next + 1) % ${OFFSETS};
        }
        sum += mapper.resolve(batch);
        const extents = mapper.extentCount;
        for (let i = 0; i < extents; i++) {
          sum += (mapper.extentPosition(i) + mapper.extentLength(i)) / ${SECTOR} + mapper.extentKind(i);
        }
      }
      return sum;
    };`;
  return new Function("work", "starts", source)(work, starts);
}

/** The context with the starts behind it, for the C program. */
function image(mapper: CoreMapper, starts: Float64Array): Uint8Array {
  const bytes = new Uint8Array(mapper.memory.length + starts.byteLength);
  bytes.set(mapper.memory);
  bytes.set(new Uint8Array(starts.buffer), mapper.memory.length);
  return bytes;
}

function bench(name: string, operations: number, work: Work): Bench {
  return {
    name,
    unit: "range",
    operations,
    contestants() {
      const starts = offsets(work);
      const core = work.mapper();
      const twin = TwinMapper.of(core.memory);
      const runCore = looper(work, starts);
      const runTwin = looper(work, starts);
      return [
        inProcess("WASM", (n) => runCore(core, n)),
        inProcess("TypeScript", (n) => runTwin(twin, n)),
        ...native("map", `map-${work.label}`, image(core, starts), [
          core.memory.length,
          OFFSETS,
          work.length,
          work.batch,
        ]),
      ];
    },
  };
}

const KIB4 = { length: 4096, random: true };
const MIB1 = { length: 1 << 20, random: false };

export const mapBenches: Bench[] = [
  bench("map: VHD, 4 KiB random, 1 a call", 300_000, { label: "vhd-4k", mapper: vhdMapper, batch: 1, ...KIB4 }),
  bench("map: VHD, 4 KiB random, 32 a call", 300_000, { label: "vhd-4k-32", mapper: vhdMapper, batch: 32, ...KIB4 }),
  bench("map: VHD, 1 MiB sequential", 200_000, { label: "vhd-1m", mapper: vhdMapper, batch: 1, ...MIB1 }),
  bench("map: tree, 4 KiB random, 1 a call", 300_000, { label: "tree-4k", mapper: treeMapper, batch: 1, ...KIB4 }),
  bench("map: tree, 4 KiB random, 32 a call", 300_000, { label: "tree-4k-32", mapper: treeMapper, batch: 32, ...KIB4 }),
  bench("map: tree, 1 MiB sequential", 50_000, { label: "tree-1m", mapper: treeMapper, batch: 1, ...MIB1 }),
];
