// Split virtqueues (VIRTIO 1.2 §2.7), device half: what every device type shares. A chain is walked once, each descriptor
// field loaded once; what was found stays in the device's own context (VqDevice), never to be looked up in the ring again.
import { guestRange } from "../memory";
import { AvailableRing, Descriptor, DescriptorFlag, UsedRing } from "../spec/virtio";
import { VqAnswer, VqDevice, VqElement, VqFault, VqFeature, VqLimit, VqRefusal, VqSlot } from "../spec/virtqueue";

/** Gives the queue up; it stays so until the device is reset. */
export function setFault(ctx: usize, fault: u32): void {
  store<u32>(ctx, fault, VqDevice.Fault);
}

export function slotAt(ctx: usize, head: u32): usize {
  return ctx + VqDevice.Slots + head * VqSlot.Size;
}

/** Element `index` of the chain walked last. */
export function elementAt(ctx: usize, index: u32): usize {
  return ctx + VqDevice.Chain + index * VqElement.Size;
}

/** Chains of this call are told from those of earlier calls by their stamps, so that no stamp needs to be taken back. */
export function beginStamps(ctx: usize): void {
  let stamp = load<u32>(ctx, VqDevice.Stamp) + 1;
  if (stamp > 0xfffffe00) {
    memory.fill(ctx + VqDevice.DirectStamps, 0, VqDevice.Chain - VqDevice.DirectStamps);
    stamp = 1;
  }
  store<u32>(ctx, stamp, VqDevice.FirstStamp);
  store<u32>(ctx, stamp, VqDevice.Stamp);
}

/**
 * Walks the chain at `head` into `VqDevice.Chain`: device-readable elements first, then device-writable ones, as
 * translated ranges. Answers VqFault when the chain cannot be followed to its end or has no place for a status. A chain
 * that can be followed but breaks a rule is given a VqRefusal; its elements are then incomplete.
 */
export function walkChain(ctx: usize, head: u32): u32 {
  const base = load<u32>(ctx, VqDevice.RamBase);
  const size = load<u32>(ctx, VqDevice.RamSize);
  const stamp = load<u32>(ctx, VqDevice.Stamp);
  store<u32>(ctx, stamp + 1, VqDevice.Stamp);
  let table: usize = load<u32>(ctx, VqDevice.Descriptors);
  let limit = load<u32>(ctx, VqDevice.QueueSize);
  let stamps = ctx + VqDevice.DirectStamps;
  // A descriptor belongs to one chain at a time; the entries of an indirect table, only to be followed once.
  let oldest = load<u32>(ctx, VqDevice.FirstStamp);
  let indirect = false;
  let seen: u32 = 0;
  let count: u32 = 0;
  let readable: u32 = 0;
  let readableBytes: u64 = 0;
  let writableBytes: u64 = 0;
  let last: usize = 0;
  let writing = false;
  let refusal: u32 = VqRefusal.None;
  for (let index = head; ; ) {
    const mark = stamps + (index << 2);
    if (load<u32>(mark) >= oldest) return VqFault.Loop;
    store<u32>(mark, stamp);
    const at = table + index * Descriptor.Size;
    const low = load<u32>(at, Descriptor.Address);
    const high = load<u32>(at, Descriptor.AddressHigh);
    const length = load<u32>(at, Descriptor.Length);
    const flags = <u32>load<u16>(at, Descriptor.Flags);
    if ((flags & DescriptorFlag.Indirect) !== 0 && !indirect) {
      const allowed = (load<u32>(ctx, VqDevice.Features) & VqFeature.Indirect) !== 0;
      if (!allowed || (flags & DescriptorFlag.Next) !== 0) return VqFault.Indirect;
      limit = length / Descriptor.Size;
      if (limit === 0 || limit > <u32>VqLimit.Chain || length % Descriptor.Size !== 0) return VqFault.IndirectLength;
      table = guestRange(base, size, low, high, length);
      if (table === 0) return VqFault.IndirectRange;
      stamps = ctx + VqDevice.IndirectStamps;
      oldest = stamp;
      indirect = true;
      index = 0;
      continue;
    }
    if (++seen > <u32>VqLimit.Chain) return VqFault.TooLong;
    if ((flags & DescriptorFlag.Indirect) !== 0) {
      refusal = VqRefusal.NestedIndirect;
    } else {
      let start: usize = 0;
      if (length !== 0) start = guestRange(base, size, low, high, length);
      if (start === 0) refusal = length === 0 ? VqRefusal.Empty : VqRefusal.Address;
      if ((flags & DescriptorFlag.Write) !== 0) {
        writing = true;
        writableBytes += length;
        last = start === 0 ? 0 : start + length - 1;
      } else {
        if (writing) refusal = VqRefusal.Order;
        readableBytes += length;
        readable++;
      }
      const element = elementAt(ctx, count++);
      store<u32>(element, start, VqElement.Start);
      store<u32>(element, length, VqElement.Length);
    }
    if ((flags & DescriptorFlag.Next) === 0) break;
    index = <u32>load<u16>(at, Descriptor.Next);
    if (index >= limit) return VqFault.Next;
  }
  if (last === 0) return VqFault.NoStatus;
  store<u32>(ctx, count, VqDevice.ChainCount);
  store<u32>(ctx, readable, VqDevice.ChainReadable);
  store<u64>(ctx, readableBytes, VqDevice.ReadableBytes);
  store<u64>(ctx, writableBytes, VqDevice.WritableBytes);
  store<u32>(ctx, last, VqDevice.ChainLast);
  store<u32>(ctx, refusal, VqDevice.Refusal);
  return VqFault.None;
}

/** Copies `length` device-readable bytes, `skip` bytes into the chain, to `VqDevice.Gathered`. They are all there. */
export function gather(ctx: usize, skip: u64, length: u32): usize {
  const target = ctx + VqDevice.Gathered;
  let left = length;
  for (let index: u32 = 0; left !== 0; index++) {
    const element = elementAt(ctx, index);
    const bytes = load<u32>(element, VqElement.Length);
    if (skip >= bytes) {
      skip -= bytes;
      continue;
    }
    const take = min<u32>(left, bytes - <u32>skip);
    memory.copy(target + (length - left), load<u32>(element, VqElement.Start) + <u32>skip, take);
    left -= take;
    skip = 0;
  }
  return target;
}

/**
 * Publishes used elements up to `index`, then decides on an interrupt (§2.7.7) and looks whether the driver has made
 * more available meanwhile; VqAnswer.
 */
export function publishUsed(ctx: usize, index: u32): u32 {
  const size = load<u32>(ctx, VqDevice.QueueSize);
  const available: usize = load<u32>(ctx, VqDevice.Available);
  const before = load<u32>(ctx, VqDevice.UsedIndex);
  let answer: u32 = 0;
  if (index !== before) {
    store<u32>(ctx, index, VqDevice.UsedIndex);
    store<u16>(load<u32>(ctx, VqDevice.Used), <u16>index, UsedRing.Index);
    if ((load<u32>(ctx, VqDevice.Features) & VqFeature.EventIndex) !== 0) {
      const event = <u32>load<u16>(available + AvailableRing.Ring + size * AvailableRing.EntrySize);
      if (passes(event, index, before)) answer = VqAnswer.Interrupt;
    } else if ((load<u16>(available, AvailableRing.Flags) & 1) === 0) answer = VqAnswer.Interrupt;
  }
  if (load<u32>(ctx, VqDevice.Fault) === VqFault.None) {
    const newest = <u32>load<u16>(available, AvailableRing.Index);
    if (newest !== load<u32>(ctx, VqDevice.LastAvailable)) answer |= VqAnswer.More;
  }
  return answer;
}

/** Has the index moved past `event` on its way from `before` to `now`? (§2.7.7.1, vring_need_event.) Modulo 65,536. */
export function passes(event: u32, now: u32, before: u32): bool {
  return ((now - event - 1) & 0xffff) < ((now - before) & 0xffff);
}
