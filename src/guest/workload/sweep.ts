import { BlockRequest, Op, Status } from "../../core/block.ts";
import { type Flow, wait } from "../../core/flow.ts";
import type { GuestRam } from "../../hypervisor/memory.ts";
import type { BlockLayer } from "../block-layer.ts";
import type { Ledger } from "./ledger.ts";

/** Bytes a request; four are in flight. */
const PIECE = 128 << 10;
const DEPTH = 4;

/**
 * Goes over a whole region in large requests: writes it (each sector's next generation, or `generation`), or reads it and
 * checks every byte. Returns null, or what was wrong.
 */
export function* sweep(
  layer: BlockLayer,
  ram: GuestRam,
  ledger: Ledger,
  mode: "read" | "write",
  generation?: number,
): Flow<string | null> {
  const { region } = ledger;
  const pages = (PIECE * DEPTH) / 4096;
  const address = ram.allocate(pages);
  const requests = Array.from({ length: DEPTH }, () => new BlockRequest());
  try {
    for (let done = 0; done < region.length; done += PIECE * DEPTH) {
      const batch: BlockRequest[] = [];
      const bytes = ram.bytes(address, pages * 4096).fill(0xa5);
      const words = (i: number) => new Uint32Array(bytes.buffer, bytes.byteOffset + i * PIECE, PIECE / 4);
      for (let i = 0; i < DEPTH && done + i * PIECE < region.length; i++) {
        const request = requests[i];
        request.op = mode === "read" ? Op.Read : Op.Write;
        request.offset = region.offset + done + i * PIECE;
        request.length = Math.min(PIECE, region.length - done - i * PIECE);
        request.segments.clear();
        request.segments.push(address + i * PIECE, request.length);
        if (mode === "write") ledger.write(words(i), request.offset, request.length, generation);
        batch.push(request);
      }
      yield* wait(layer.submit(batch));
      for (const [i, { status, offset, length, error }] of batch.entries()) {
        if (status !== Status.Ok) return `${mode} at byte ${offset} failed${error ? `: ${error.message}` : ""}`;
        const wrong = mode === "read" ? ledger.check(words(i), offset, length) : null;
        if (wrong) return wrong;
      }
    }
    return null;
  } finally {
    ram.free(address, pages);
  }
}

/** Makes everything durable. Returns null, or what was wrong. */
export function* flush(layer: BlockLayer): Flow<string | null> {
  const request = new BlockRequest();
  request.op = Op.Flush;
  yield* wait(layer.submit([request]));
  return request.status === Status.Ok ? null : `flush failed${request.error ? `: ${request.error.message}` : ""}`;
}
