// Xen's shared producer-consumer ring (io/ring.h), either end. Indices run freely and wrap at 2^32.
//
//   page 0 ┌──────────┬───────────┬──────────┬───────────┬────────────┐
//          │ req_prod │ req_event │ rsp_prod │ rsp_event │ … to 64    │
//          ├──────────┴───────────┴──────────┴───────────┴────────────┤
//          │ entries, requests and responses in the same slots; in a  │
//   page 1 │ ring of several pages, which need not be adjacent, an    │
//     …    │ entry may straddle two                                   │
//          └──────────────────────────────────────────────────────────┘
import { Sring, XenPage } from "../spec/xen";
import { RingContext } from "../spec/xen-context";

/** Linear address of byte `offset` of the ring. */
export function ringAddress(ring: usize, offset: u32): usize {
  const page: usize = load<u32>(ring + ((offset >>> XenPage.Shift) << 2), RingContext.Pages);
  return page + (offset & (XenPage.Size - 1));
}

/** Where in the ring entry `index` starts, in bytes. */
export function ringOffset(ring: usize, index: u32): u32 {
  return Sring.Entries + (index & (load<u32>(ring, RingContext.Entries) - 1)) * load<u32>(ring, RingContext.Stride);
}

/** Does [offset, + bytes) run from one ring page into the next? */
export function ringStraddles(offset: u32, bytes: u32): bool {
  return (offset & (XenPage.Size - 1)) + bytes > <u32>XenPage.Size;
}

/** Address to read entry `index` at: in place, or a private copy when it straddles pages. Entries are whole words. */
export function ringRead(ring: usize, index: u32): usize {
  const offset = ringOffset(ring, index);
  const bytes = load<u32>(ring, RingContext.Stride);
  if (!ringStraddles(offset, bytes)) return ringAddress(ring, offset);
  for (let at: u32 = 0; at < bytes; at += 4) {
    store<u32>(ring + at, load<u32>(ringAddress(ring, offset + at)), RingContext.Scratch);
  }
  return ring + RingContext.Scratch;
}

/** Address to build entry `index` at; `ringCommit` puts it into the ring. */
export function ringWrite(ring: usize, index: u32): usize {
  const offset = ringOffset(ring, index);
  const straddles = ringStraddles(offset, load<u32>(ring, RingContext.Stride));
  return straddles ? ring + RingContext.Scratch : ringAddress(ring, offset);
}

/** Completes `ringWrite` of the first `bytes` of entry `index`, built at `from`. */
export function ringCommit(ring: usize, index: u32, from: usize, bytes: u32): void {
  if (from !== ring + RingContext.Scratch) return;
  const offset = ringOffset(ring, index);
  for (let at: u32 = 0; at < bytes; at += 4) {
    store<u32>(ringAddress(ring, offset + at), load<u32>(from + at));
  }
}

/** The other end's producer index (Sring.ReqProd or Sring.RspProd): load it once per call. */
export function ringProducer(ring: usize, field: usize): u32 {
  return load<u32>(<usize>load<u32>(ring, RingContext.Pages) + field);
}

/**
 * RING_PUSH_*_AND_CHECK_NOTIFY: publishes entries [old, produced) under `field` and answers whether the other end asked
 * to be told: whether its event index, one word on, lies among them.
 */
export function ringPush(ring: usize, field: usize, old: u32): bool {
  const page: usize = load<u32>(ring, RingContext.Pages);
  const produced = load<u32>(ring, RingContext.Produced);
  store<u32>(page + field, produced);
  return produced - load<u32>(page + field, Sring.ReqEvent - Sring.ReqProd) < produced - old;
}

/** RING_FINAL_CHECK_FOR_*: asks for an event at the next entry, then answers whether one has come already. */
export function ringFinalCheck(ring: usize, field: usize): bool {
  const page: usize = load<u32>(ring, RingContext.Pages);
  const consumed = load<u32>(ring, RingContext.Consumed);
  store<u32>(page + field, consumed + 1, Sring.ReqEvent - Sring.ReqProd);
  return load<u32>(page + field) !== consumed;
}
