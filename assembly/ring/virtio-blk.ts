// virtio-blk requests (VIRTIO 1.2 §5.2.6), device half. The driver may frame a request over descriptors as it likes
// (§2.7.4): the header is the first 16 device-readable bytes, the status the last device-writable one.
import { pushRequest, pushSegment, tableReset } from "../memory";
import { BlockOp, BlockStatus, RequestField, TableField } from "../spec/request";
import {
  AvailableRing,
  BlkHeader,
  BlkLimit,
  BlkRange,
  BlkRangeFlag,
  BlkStatus,
  BlkType,
  UsedRing,
} from "../spec/virtio";
import {
  BlkAbility,
  VqCompletion,
  VqDevice,
  VqElement,
  VqFault,
  VqFeature,
  VqLimit,
  VqRefusal,
  VqSlot,
} from "../spec/virtqueue";
import { beginStamps, elementAt, gather, publishUsed, setFault, slotAt, walkChain } from "./virtqueue";

/**
 * Moves what the driver has made available to the request table, as far as the table holds it, and returns the number of
 * records. A discard may be several records with one tag (the head). Records whose status is not Pending are final.
 */
export function virtioBlkConsume(ctx: usize): u32 {
  const table: usize = load<u32>(ctx, VqDevice.Table);
  tableReset(table);
  if (load<u32>(ctx, VqDevice.Fault) !== VqFault.None) return 0;
  const size = load<u32>(ctx, VqDevice.QueueSize);
  const available: usize = load<u32>(ctx, VqDevice.Available);
  const index = <u32>load<u16>(available, AvailableRing.Index);
  let next = load<u32>(ctx, VqDevice.LastAvailable);
  if (((index - next) & 0xffff) > size) {
    setFault(ctx, VqFault.AvailableIndex);
    return 0;
  }
  beginStamps(ctx);
  while (next !== index && roomForAny(table)) {
    const head = <u32>load<u16>(available + AvailableRing.Ring + (next & (size - 1)) * AvailableRing.EntrySize);
    next = (next + 1) & 0xffff;
    let fault: u32 = VqFault.Head;
    if (head < size) {
      fault = load<u32>(slotAt(ctx, head), VqSlot.Parts) === 0 ? walkChain(ctx, head) : VqFault.HeadBusy;
    }
    if (fault !== VqFault.None) {
      setFault(ctx, fault);
      break;
    }
    parse(ctx, table, head);
  }
  store<u32>(ctx, next, VqDevice.LastAvailable);
  if ((load<u32>(ctx, VqDevice.Features) & VqFeature.EventIndex) !== 0) {
    store<u16>(load<u32>(ctx, VqDevice.Used) + UsedRing.Ring + size * UsedRing.EntrySize, <u16>next);
  }
  return load<u32>(table, TableField.RequestCount);
}

/**
 * Finishes the first `count` of `VqDevice.Completions`: status bytes, used elements, used index. Answers VqAnswer.
 * Completions of one head may come apart; the request is finished with the last, its first failure is its status.
 */
export function virtioBlkComplete(ctx: usize, count: u32): u32 {
  const mask = load<u32>(ctx, VqDevice.QueueSize) - 1;
  const ring: usize = load<u32>(ctx, VqDevice.Used) + UsedRing.Ring;
  let index = load<u32>(ctx, VqDevice.UsedIndex);
  let completion = ctx + VqDevice.Completions;
  for (let i: u32 = 0; i < count; i++, completion += VqCompletion.Size) {
    const head = load<u32>(completion, VqCompletion.Head);
    const slot = slotAt(ctx, head);
    if (load<u32>(slot, VqSlot.Status) === BlockStatus.Ok) {
      store<u32>(slot, load<u32>(completion, VqCompletion.Status), VqSlot.Status);
    }
    const parts = load<u32>(slot, VqSlot.Parts) - 1;
    store<u32>(slot, parts, VqSlot.Parts);
    if (parts !== 0) continue;
    store<u8>(load<u32>(slot, VqSlot.StatusAddress), <u8>wireStatus(load<u32>(slot, VqSlot.Status)));
    const element = ring + (index & mask) * UsedRing.EntrySize;
    store<u32>(element, head);
    store<u32>(element, load<u32>(slot, VqSlot.Length), 4);
    index = (index + 1) & 0xffff;
  }
  return publishUsed(ctx, index);
}

function wireStatus(status: u32): u32 {
  if (status === BlockStatus.Ok) return BlkStatus.Ok;
  return status === BlockStatus.Unsupported ? BlkStatus.Unsupported : BlkStatus.IoError;
}

/** Room for the widest request there is? Asked before the chain is looked at, so that none is ever read twice. */
function roomForAny(table: usize): bool {
  return (
    load<u32>(table, TableField.RequestCount) + VqLimit.Ranges <= load<u32>(table, TableField.RequestCapacity) &&
    load<u32>(table, TableField.SegmentCount) + VqLimit.Chain <= load<u32>(table, TableField.SegmentCapacity)
  );
}

/** The chain just walked, as one record or more. */
function parse(ctx: usize, table: usize, head: u32): void {
  const before = load<u32>(table, TableField.RequestCount);
  const slot = slotAt(ctx, head);
  store<u32>(slot, load<u32>(ctx, VqDevice.ChainLast), VqSlot.StatusAddress);
  store<u32>(slot, BlockStatus.Ok, VqSlot.Status);
  // §2.7.8.2: what the device may have written. A refused request has its status byte alone.
  let length = min<u64>(load<u64>(ctx, VqDevice.WritableBytes), 0xffffffff);
  let refusal = load<u32>(ctx, VqDevice.Refusal);
  if (refusal === VqRefusal.None) refusal = request(ctx, table, head);
  if (refusal !== VqRefusal.None) {
    store<u32>(table, before, TableField.RequestCount);
    const segments = load<u32>(table, TableField.SegmentCount);
    const record = pushRequest(table, BlockOp.Flush, statusOf(refusal), 0, 0, segments, head);
    store<u32>(record, refusal, RequestField.Private0);
    length = 1;
  }
  store<u32>(slot, <u32>length, VqSlot.Length);
  store<u32>(slot, load<u32>(table, TableField.RequestCount) - before, VqSlot.Parts);
}

function statusOf(refusal: u32): u32 {
  if (refusal === VqRefusal.Type || refusal === VqRefusal.Payload) return BlockStatus.Unsupported;
  if (refusal === VqRefusal.Range) return BlockStatus.OutOfRange;
  return refusal === VqRefusal.ReadOnly ? BlockStatus.ReadOnly : BlockStatus.Io;
}

/** Decodes a well-formed chain and pushes its records; VqRefusal. */
function request(ctx: usize, table: usize, head: u32): u32 {
  const readable = load<u64>(ctx, VqDevice.ReadableBytes);
  if (readable < <u64>BlkHeader.Size) return VqRefusal.Header;
  let header: usize = load<u32>(elementAt(ctx, 0), VqElement.Start);
  if (load<u32>(elementAt(ctx, 0), VqElement.Length) < <u32>BlkHeader.Size) header = gather(ctx, 0, BlkHeader.Size);
  const type = load<u32>(header, BlkHeader.Type);
  const abilities = load<u32>(ctx, VqDevice.Abilities);
  const segments = load<u32>(table, TableField.SegmentCount);
  if (type === BlkType.In || type === BlkType.Out) {
    const write = type === BlkType.Out;
    if (write && (abilities & BlkAbility.Write) === 0) return VqRefusal.ReadOnly;
    const length = write ? readable - BlkHeader.Size : load<u64>(ctx, VqDevice.WritableBytes) - 1;
    const sector = load<u64>(header, BlkHeader.Sector);
    const refusal = checkRange(ctx, sector, length);
    if (refusal !== VqRefusal.None) return refusal;
    const first = write ? 0 : load<u32>(ctx, VqDevice.ChainReadable);
    pushData(ctx, table, first, write ? BlkHeader.Size : 0, length);
    const op: u32 = write ? BlockOp.Write : BlockOp.Read;
    pushRequest(table, op, BlockStatus.Pending, byteOffset(sector), <f64>length, segments, head);
    return VqRefusal.None;
  }
  if (type === BlkType.Flush) {
    if ((abilities & BlkAbility.Flush) === 0) return VqRefusal.Type;
    pushRequest(table, BlockOp.Flush, BlockStatus.Pending, 0, 0, segments, head);
    return VqRefusal.None;
  }
  if (type === BlkType.GetId) {
    const length = min<u64>(BlkLimit.Identity, load<u64>(ctx, VqDevice.WritableBytes) - 1);
    pushData(ctx, table, load<u32>(ctx, VqDevice.ChainReadable), 0, length);
    pushRequest(table, BlockOp.GetId, BlockStatus.Pending, 0, <f64>length, segments, head);
    return VqRefusal.None;
  }
  if (type === BlkType.Discard && (abilities & BlkAbility.Discard) !== 0) {
    return ranges(ctx, table, head, BlockOp.Discard, readable - BlkHeader.Size);
  }
  if (type === BlkType.WriteZeroes && (abilities & BlkAbility.WriteZeroes) !== 0) {
    return ranges(ctx, table, head, BlockOp.WriteZeroes, readable - BlkHeader.Size);
  }
  return VqRefusal.Type;
}

/** A discard or write-zeroes payload (§5.2.6.2). Refused as a whole, before any of it is carried out. */
function ranges(ctx: usize, table: usize, head: u32, op: u32, bytes: u64): u32 {
  if (bytes === 0 || bytes % BlkRange.Size !== 0 || bytes > <u64>(VqLimit.Ranges * BlkRange.Size))
    return VqRefusal.Payload;
  const segments = load<u32>(table, TableField.SegmentCount);
  const allowed: u32 = op === BlockOp.WriteZeroes ? BlkRangeFlag.Unmap : 0;
  for (let at: u64 = BlkHeader.Size; at < BlkHeader.Size + bytes; at += BlkRange.Size) {
    const range = gather(ctx, at, BlkRange.Size);
    if ((load<u32>(range, BlkRange.Flags) & ~allowed) !== 0) return VqRefusal.Payload;
    const sector = load<u64>(range, BlkRange.Sector);
    const length = <u64>load<u32>(range, BlkRange.Sectors) * BlkLimit.Sector;
    const refusal = checkRange(ctx, sector, length);
    if (refusal !== VqRefusal.None) return refusal;
    pushRequest(table, op, BlockStatus.Pending, byteOffset(sector), <f64>length, segments, head);
  }
  return VqRefusal.None;
}

/** Whole blocks, on the disk. */
function checkRange(ctx: usize, sector: u64, length: u64): u32 {
  const unit = <u64>load<u32>(ctx, VqDevice.BlockSectors);
  if (length % (unit * BlkLimit.Sector) !== 0 || sector % unit !== 0) return VqRefusal.Length;
  // As floats, so that no sector number wraps: past 2^53 they are inexact, and far outside any disk.
  const outside = byteOffset(sector) + <f64>length > load<f64>(ctx, VqDevice.Capacity);
  return outside ? VqRefusal.Range : VqRefusal.None;
}

function byteOffset(sector: u64): f64 {
  return <f64>sector * BlkLimit.Sector;
}

/** Pushes `length` bytes of the chain as segments, from element `index` on, its first `skip` bytes left out. */
function pushData(ctx: usize, table: usize, index: u32, skip: u32, length: u64): void {
  for (let left = length; left !== 0; index++) {
    const element = elementAt(ctx, index);
    const bytes = load<u32>(element, VqElement.Length);
    if (skip >= bytes) {
      skip -= bytes;
      continue;
    }
    const take = <u32>min<u64>(left, bytes - skip);
    pushSegment(table, load<u32>(element, VqElement.Start) + skip, take);
    left -= take;
    skip = 0;
  }
}
