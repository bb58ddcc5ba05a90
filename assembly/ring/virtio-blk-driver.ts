// virtio-blk over a split virtqueue, driver half: runs in the guest. The free list and what is in flight are the driver's
// own (VqDriver), so that a device that scribbles over the ring cannot lead it astray.
import { requestAt, segmentAt } from "../memory";
import { BlockOp, BlockStatus, RequestField, SegmentField } from "../spec/request";
import {
  AvailableFlag,
  AvailableRing,
  BlkHeader,
  BlkLimit,
  BlkRange,
  BlkStatus,
  BlkType,
  Descriptor,
  DescriptorFlag,
  UsedFlag,
  UsedRing,
} from "../spec/virtio";
import { DriverSlot, VqCompletion, VqDriver, VqFeature, VqHead, VqPoll } from "../spec/virtqueue";
import { passes } from "./virtqueue";

/**
 * Makes the first `count` records of the request table available; the caller has seen to it that descriptors are free
 * (one a request with indirect descriptors, else two more than segments). Answers whether the device must be notified.
 */
export function virtioBlkSubmit(ctx: usize, count: u32): u32 {
  const size = load<u32>(ctx, VqDriver.QueueSize);
  const available: usize = load<u32>(ctx, VqDriver.Available);
  const used: usize = load<u32>(ctx, VqDriver.Used);
  const features = load<u32>(ctx, VqDriver.Features);
  const table: usize = load<u32>(ctx, VqDriver.Table);
  const before = load<u32>(ctx, VqDriver.AvailableIndex);
  let index = before;
  if ((features & VqFeature.PollFirst) !== 0) quieten(ctx, available, size, features);
  for (let i: u32 = 0; i < count; i++) {
    const head = submitOne(ctx, table, requestAt(table, i), features);
    store<u16>(available + AvailableRing.Ring + (index & (size - 1)) * AvailableRing.EntrySize, <u16>head);
    index = (index + 1) & 0xffff;
  }
  store<u32>(ctx, load<u32>(ctx, VqDriver.InFlight) + count, VqDriver.InFlight);
  store<u32>(ctx, index, VqDriver.AvailableIndex);
  store<u16>(available, <u16>index, AvailableRing.Index);
  if ((features & VqFeature.EventIndex) !== 0) {
    const event = <u32>load<u16>(used + UsedRing.Ring + size * UsedRing.EntrySize);
    return passes(event, index, before) ? 1 : 0;
  }
  return (load<u16>(used, UsedRing.Flags) & UsedFlag.NoNotify) === 0 ? 1 : 0;
}

/**
 * Asks for an interrupt at the next completion and takes what the device has used: (tag, status) in
 * `VqDriver.Completions`. Returns how many, or `VqPoll.Broken`. To be called until it returns 0 or nothing is in flight:
 * only then is it certain that an interrupt will tell of the next one.
 */
export function virtioBlkPoll(ctx: usize): i32 {
  const size = load<u32>(ctx, VqDriver.QueueSize);
  const available: usize = load<u32>(ctx, VqDriver.Available);
  const used: usize = load<u32>(ctx, VqDriver.Used);
  let last = load<u32>(ctx, VqDriver.LastUsed);
  // Before the index is looked at, lest the device finish in between; and again for the place reached.
  listen(ctx, available, size, last);
  const pending = (<u32>load<u16>(used, UsedRing.Index) - last) & 0xffff;
  const inFlight = load<u32>(ctx, VqDriver.InFlight);
  if (pending > inFlight) return VqPoll.Broken;
  const slots: usize = load<u32>(ctx, VqDriver.RamBase) + load<u32>(ctx, VqDriver.Slots);
  let completion = ctx + VqDriver.Completions;
  for (let i: u32 = 0; i < pending; i++, completion += VqCompletion.Size) {
    const head = load<u32>(used + UsedRing.Ring + (last & (size - 1)) * UsedRing.EntrySize);
    const state = ctx + VqDriver.Heads + head * VqHead.Size;
    if (head >= size || load<u32>(state, VqHead.Descriptors) === 0) return VqPoll.Broken;
    const status = load<u8>(slots + head * DriverSlot.Size + DriverSlot.Status);
    store<u32>(completion, load<u32>(state, VqHead.Tag), VqCompletion.Head);
    store<u32>(completion, blockStatus(status), VqCompletion.Status);
    release(ctx, head, load<u32>(state, VqHead.Descriptors));
    store<u32>(state, 0, VqHead.Descriptors);
    last = (last + 1) & 0xffff;
  }
  if (pending !== 0) listen(ctx, available, size, last);
  store<u32>(ctx, last, VqDriver.LastUsed);
  store<u32>(ctx, inFlight - pending, VqDriver.InFlight);
  return <i32>pending;
}

function blockStatus(status: u32): u32 {
  if (status === BlkStatus.Ok) return BlockStatus.Ok;
  return status === BlkStatus.Unsupported ? BlockStatus.Unsupported : BlockStatus.Io;
}

/** An interrupt when the used index passes `last` (§2.7.7). */
function listen(ctx: usize, available: usize, size: u32, last: u32): void {
  if ((load<u32>(ctx, VqDriver.Features) & VqFeature.EventIndex) !== 0) {
    store<u16>(available + AvailableRing.Ring + size * AvailableRing.EntrySize, <u16>last);
  } else store<u16>(available, 0, AvailableRing.Flags);
}

/** No interrupts while the driver is going to look by itself (§2.7.7): an event index already passed is not met again. */
function quieten(ctx: usize, available: usize, size: u32, features: u32): void {
  if ((features & VqFeature.EventIndex) !== 0) {
    const passed = load<u32>(ctx, VqDriver.LastUsed) - 1;
    store<u16>(available + AvailableRing.Ring + size * AvailableRing.EntrySize, <u16>passed);
  } else store<u16>(available, AvailableFlag.NoInterrupt, AvailableRing.Flags);
}

/** Writes header and descriptors of one record; returns its head. */
function submitOne(ctx: usize, table: usize, record: usize, features: u32): u32 {
  const base: usize = load<u32>(ctx, VqDriver.RamBase);
  const head = take(ctx);
  const slot = load<u32>(ctx, VqDriver.Slots) + head * DriverSlot.Size;
  const op = load<u32>(record, RequestField.Op);
  const sector = <u64>(load<f64>(record, RequestField.Offset) / BlkLimit.Sector);
  const ranged = op === BlockOp.Discard || op === BlockOp.WriteZeroes;
  store<u32>(base + slot, blkType(op), DriverSlot.Header + BlkHeader.Type);
  store<u32>(base + slot, 0, DriverSlot.Header + 4);
  // §5.2.6.1: zero for anything but reads and writes.
  store<u64>(base + slot, op <= <u32>BlockOp.Write ? sector : 0, DriverSlot.Header + BlkHeader.Sector);

  let entries: usize = load<u32>(ctx, VqDriver.Descriptors);
  let at = head;
  const indirect = (features & VqFeature.Indirect) !== 0;
  if (indirect) {
    const list =
      load<u32>(ctx, VqDriver.IndirectTables) + head * load<u32>(ctx, VqDriver.IndirectEntries) * Descriptor.Size;
    const count = 2 + (ranged ? 1 : load<u32>(record, RequestField.Segments));
    describe(entries, head, list, count * Descriptor.Size, DescriptorFlag.Indirect, 0);
    entries = base + list;
    at = 0;
  }
  let used: u32 = 1;
  let next = indirect ? at + 1 : take(ctx);
  describe(entries, at, slot + DriverSlot.Header, BlkHeader.Size, DescriptorFlag.Next, next);
  if (ranged) {
    store<u64>(base + slot, sector, DriverSlot.Range + BlkRange.Sector);
    const sectors = <u32>(load<f64>(record, RequestField.Length) / BlkLimit.Sector);
    store<u32>(base + slot, sectors, DriverSlot.Range + BlkRange.Sectors);
    store<u32>(base + slot, 0, DriverSlot.Range + BlkRange.Flags);
    at = next;
    next = indirect ? at + 1 : take(ctx);
    used++;
    describe(entries, at, slot + DriverSlot.Range, BlkRange.Size, DescriptorFlag.Next, next);
  } else {
    const flags: u32 = op === BlockOp.Read ? DescriptorFlag.Next | DescriptorFlag.Write : DescriptorFlag.Next;
    const first = load<u32>(record, RequestField.FirstSegment);
    const count = load<u32>(record, RequestField.Segments);
    for (let i: u32 = 0; i < count; i++) {
      const segment = segmentAt(table, first + i);
      at = next;
      next = indirect ? at + 1 : take(ctx);
      used++;
      describe(
        entries,
        at,
        load<u32>(segment, SegmentField.Start),
        load<u32>(segment, SegmentField.Length),
        flags,
        next,
      );
    }
  }
  describe(entries, next, slot + DriverSlot.Status, 1, DescriptorFlag.Write, 0);
  const state = ctx + VqDriver.Heads + head * VqHead.Size;
  store<u32>(state, load<u32>(record, RequestField.Tag), VqHead.Tag);
  store<u32>(state, indirect ? 1 : used + 1, VqHead.Descriptors);
  return head;
}

function blkType(op: u32): u32 {
  if (op === BlockOp.Read) return BlkType.In;
  if (op === BlockOp.Write) return BlkType.Out;
  if (op === BlockOp.Flush) return BlkType.Flush;
  return op === BlockOp.Discard ? BlkType.Discard : BlkType.WriteZeroes;
}

function describe(entries: usize, index: u32, address: u32, length: u32, flags: u32, next: u32): void {
  const at = entries + index * Descriptor.Size;
  store<u32>(at, address, Descriptor.Address);
  store<u32>(at, 0, Descriptor.AddressHigh);
  store<u32>(at, length, Descriptor.Length);
  store<u16>(at, <u16>flags, Descriptor.Flags);
  store<u16>(at, <u16>next, Descriptor.Next);
}

/** The free list is linked through `VqDriver.NextFree`; a chain in flight keeps its links there, in ring order. */
function take(ctx: usize): u32 {
  const index = load<u32>(ctx, VqDriver.FreeHead);
  store<u32>(ctx, load<u32>(ctx + VqDriver.NextFree + (index << 2)), VqDriver.FreeHead);
  store<u32>(ctx, load<u32>(ctx, VqDriver.FreeCount) - 1, VqDriver.FreeCount);
  return index;
}

/** Gives a chain of `count` descriptors back. */
function release(ctx: usize, head: u32, count: u32): void {
  let tail = head;
  for (let i: u32 = 1; i < count; i++) tail = load<u32>(ctx + VqDriver.NextFree + (tail << 2));
  store<u32>(ctx + VqDriver.NextFree + (tail << 2), load<u32>(ctx, VqDriver.FreeHead));
  store<u32>(ctx, head, VqDriver.FreeHead);
  store<u32>(ctx, load<u32>(ctx, VqDriver.FreeCount) + count, VqDriver.FreeCount);
}
