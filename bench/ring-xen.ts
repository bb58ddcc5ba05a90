import { RequestField, TableField } from "../assembly/spec/request.ts";
import { Blkif64, Sring } from "../assembly/spec/xen.ts";
import type { Bench } from "./bench.ts";
import { ENTRIES, fillRing, RECORDS, SEGMENT_RECORDS, XEN, xenCore } from "./fixture/xen.ts";
import { inProcess } from "./harness.ts";
import { native } from "./native.ts";
import { XenTwin } from "./twin/xen.ts";

/** The same shape for both contestants, so that the loop around them compiles the same. */
interface BackEnd {
  i32: Int32Array;
  f64: Float64Array;
  consume(back: number, table: number): number;
  complete(back: number, table: number, count: number): number;
}

const WORDS = {
  ring: XEN.ring / 4,
  entries: (XEN.ring + Sring.Entries) / 4,
  stride: Blkif64.Request / 4,
  count: (XEN.table + TableField.RequestCount) / 4,
  records: RECORDS / 4,
  segments: SEGMENT_RECORDS / 4,
  record: RequestField.Size / 4,
};

/** Per doorbell: the guest posts its requests anew (responses overwrote their heads), the host completes them all. */
function loop(end: BackEnd, posts: Int32Array, requests: number): number {
  const { i32, f64 } = end;
  const { ring, entries, stride, count, records, segments, record } = WORDS;
  let sum = 0;
  for (let done = 0; done < requests; done += ENTRIES) {
    for (let i = 0; i < ENTRIES; i++) {
      const entry = entries + i * stride;
      i32[entry] = posts[i];
      i32[entry + 2] = i;
      i32[entry + 3] = 0;
    }
    i32[ring] += ENTRIES;
    sum += end.consume(XEN.back, XEN.table);
    const found = i32[count];
    for (let i = 0, at = records; i < found; i++, at += record) {
      const first = i32[segments + i32[at + RequestField.FirstSegment / 4] * 2];
      sum += f64[(at + RequestField.Offset / 4) >>> 1] / 512 + (first >>> 9);
      i32[at + RequestField.Status / 4] = 0;
    }
    sum += end.complete(XEN.back, XEN.table, found);
  }
  return sum;
}

export const xenBenches: Bench[] = [
  {
    name: "ring: Xen, 32 requests of 4 segments",
    unit: "request",
    operations: 160_000,
    contestants() {
      const core = xenCore();
      fillRing(core);
      const start = core.u8.slice();
      const posts = Int32Array.from({ length: ENTRIES }, (_, i) => core.u32[WORDS.entries + i * WORDS.stride]);
      const { xenBackConsume, xenBackComplete } = core.call;
      const wasm: BackEnd = {
        i32: new Int32Array(core.memory.buffer),
        f64: core.f64,
        consume: xenBackConsume,
        complete: xenBackComplete,
      };
      const twin = new XenTwin(start);
      const typescript: BackEnd = {
        i32: twin.i32,
        f64: twin.f64,
        consume: (back, table) => twin.consume(back, table),
        complete: (back, table, count) => twin.complete(back, table, count),
      };
      const image = new Uint8Array(start.length + posts.byteLength);
      image.set(start);
      image.set(new Uint8Array(posts.buffer), start.length);
      return [
        inProcess("WASM", (n) => loop(wasm, posts, n)),
        inProcess("TypeScript", (n) => loop(typescript, posts, n)),
        ...native("ring-xen", "ring-xen", image, [XEN.back, XEN.table, XEN.ring, start.length, ENTRIES]),
      ];
    },
  },
];
