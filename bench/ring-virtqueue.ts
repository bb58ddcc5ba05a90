import { RequestField } from "../assembly/spec/request.ts";
import { AvailableRing } from "../assembly/spec/virtio.ts";
import { VqDevice } from "../assembly/spec/virtqueue.ts";
import type { Bench } from "./bench.ts";
import { CHAINS, fillQueue, QUEUE, RECORDS, SEGMENT_RECORDS, VQ, virtqueueCore } from "./fixture/virtqueue.ts";
import { inProcess } from "./harness.ts";
import { native } from "./native.ts";
import { VirtqueueTwin } from "./twin/virtqueue.ts";

/** The same shape for both contestants, so that the loop around them compiles the same. */
interface Device {
  i32: Int32Array;
  u16: Uint16Array;
  f64: Float64Array;
  consume(ctx: number): number;
  complete(ctx: number, count: number): number;
}

const AVAILABLE = VQ.available / 2;
const COMPLETIONS = (VQ.context + VqDevice.Completions) / 4;
const RECORD = RequestField.Size / 4;

/** Per doorbell: the driver makes its chains available again, the host completes them all. */
function loop({ i32, u16, f64, ...device }: Device, heads: Uint16Array, requests: number): number {
  let sum = 0;
  for (let done = 0; done < requests; done += CHAINS) {
    const index = u16[AVAILABLE + AvailableRing.Index / 2];
    for (let i = 0; i < CHAINS; i++) u16[AVAILABLE + AvailableRing.Ring / 2 + ((index + i) & (QUEUE - 1))] = heads[i];
    u16[AVAILABLE + AvailableRing.Ring / 2 + QUEUE] = index; // used_event: an interrupt, please
    u16[AVAILABLE + AvailableRing.Index / 2] = index + CHAINS;
    const found = device.consume(VQ.context);
    for (let i = 0, at = RECORDS / 4; i < found; i++, at += RECORD) {
      const first = i32[SEGMENT_RECORDS / 4 + i32[at + RequestField.FirstSegment / 4] * 2];
      sum += f64[(at + RequestField.Offset / 4) >>> 1] / 512 + (first >>> 9);
      i32[COMPLETIONS + i * 2] = i32[at + RequestField.Tag / 4];
      i32[COMPLETIONS + i * 2 + 1] = 0;
    }
    sum += device.complete(VQ.context, found);
  }
  return sum;
}

function bench(kind: "direct" | "indirect"): Bench {
  return {
    name: `ring: virtqueue, 32 chains of 3, ${kind}`,
    unit: "request",
    operations: 320_000,
    contestants() {
      const core = virtqueueCore();
      const heads = fillQueue(core, kind === "indirect");
      const start = core.u8.slice();
      const { virtioBlkConsume, virtioBlkComplete } = core.call;
      const wasm: Device = {
        i32: new Int32Array(core.memory.buffer),
        u16: new Uint16Array(core.memory.buffer),
        f64: core.f64,
        consume: virtioBlkConsume,
        complete: virtioBlkComplete,
      };
      const twin = new VirtqueueTwin(start);
      const typescript: Device = {
        i32: twin.i32,
        u16: twin.u16,
        f64: twin.f64,
        consume: (ctx) => twin.consume(ctx),
        complete: (ctx, count) => twin.complete(ctx, count),
      };
      const image = new Uint8Array(start.length + heads.byteLength);
      image.set(start);
      image.set(new Uint8Array(heads.buffer), start.length);
      return [
        inProcess("WASM", (n) => loop(wasm, heads, n)),
        inProcess("TypeScript", (n) => loop(typescript, heads, n)),
        ...native("ring-virtqueue", `virtqueue-${kind}`, image, [VQ.context, start.length, CHAINS]),
      ];
    },
  };
}

export const virtqueueBenches: Bench[] = [bench("direct"), bench("indirect")];
