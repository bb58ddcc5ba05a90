import { BlockOp, BlockStatus, RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import {
  AvailableRing,
  BlkHeader,
  BlkLimit,
  BlkRange,
  BlkRangeFlag,
  BlkStatus,
  BlkType,
  Descriptor,
  DescriptorFlag,
  UsedRing,
} from "../../assembly/spec/virtio.ts";
import {
  BlkAbility,
  VqAnswer,
  VqCompletion,
  VqDevice,
  VqFault,
  VqFeature,
  VqLimit,
  VqRefusal,
  VqSlot,
} from "../../assembly/spec/virtqueue.ts";

const RECORD = RequestField.Size / 4;
const SLOT = VqSlot.Size / 4;

/**
 * assembly/ring/virtqueue.ts and virtio-blk.ts in TypeScript as we would write them without WebAssembly, over a memory of
 * the same layout. What the core keeps in its context while it parses one chain is in fields here. Block sizes are powers
 * of two.
 */
export class VirtqueueTwin {
  readonly i32: Int32Array;
  readonly u16: Uint16Array;
  readonly u8: Uint8Array;
  readonly f64: Float64Array;
  private readonly view: DataView;
  // What a call loads from the context; indices are of words.
  private table = 0;
  private segmentsAt = 0;
  private requests = 0;
  private segments = 0;
  private ramBase = 0;
  private ramSize = 0;
  private queueSize = 0;
  private descriptors = 0;
  private features = 0;
  private abilities = 0;
  private unit = 0;
  private capacity = 0.5;
  private chain = 0;
  // What a walk found.
  private readable = 0;
  private readableBytes = 0;
  private writableBytes = 0;
  private last = 0;
  private refusal = 0;

  constructor(memory: Uint8Array) {
    this.u8 = memory.slice();
    this.i32 = new Int32Array(this.u8.buffer);
    this.u16 = new Uint16Array(this.u8.buffer);
    this.f64 = new Float64Array(this.u8.buffer);
    this.view = new DataView(this.u8.buffer);
  }

  /** Guests may put headers and indirect tables anywhere. */
  private word(address: number): number {
    return (address & 3) === 0 ? this.i32[address >>> 2] : this.view.getInt32(address, true);
  }

  consume(ctx: number): number {
    const { i32, u16 } = this;
    const c = ctx >>> 2;
    const t = i32[c + VqDevice.Table / 4] >>> 2;
    i32[t + TableField.RequestCount / 4] = 0;
    i32[t + TableField.SegmentCount / 4] = 0;
    if (i32[c + VqDevice.Fault / 4] !== VqFault.None) return 0;
    const size = i32[c + VqDevice.QueueSize / 4];
    const available = i32[c + VqDevice.Available / 4] >>> 1;
    const index = u16[available + AvailableRing.Index / 2];
    let next = i32[c + VqDevice.LastAvailable / 4];
    if (((index - next) & 0xffff) > size) {
      i32[c + VqDevice.Fault / 4] = VqFault.AvailableIndex;
      return 0;
    }
    this.begin(c, t);
    const requestLimit = i32[t + TableField.RequestCapacity / 4] - VqLimit.Ranges;
    const segmentLimit = i32[t + TableField.SegmentCapacity / 4] - VqLimit.Chain;
    const slots = c + VqDevice.Slots / 4;
    while (next !== index && this.requests <= requestLimit && this.segments <= segmentLimit) {
      const head = u16[available + AvailableRing.Ring / 2 + (next & (size - 1))];
      next = (next + 1) & 0xffff;
      let fault: number = VqFault.Head;
      if (head < size) fault = i32[slots + head * SLOT] === 0 ? this.walk(c, head) : VqFault.HeadBusy;
      if (fault !== VqFault.None) {
        i32[c + VqDevice.Fault / 4] = fault;
        break;
      }
      this.parse(c, slots + head * SLOT, head);
    }
    i32[c + VqDevice.LastAvailable / 4] = next;
    if (this.features & VqFeature.EventIndex) {
      u16[((i32[c + VqDevice.Used / 4] + UsedRing.Ring) >>> 1) + (size * UsedRing.EntrySize) / 2] = next;
    }
    i32[t + TableField.SegmentCount / 4] = this.segments;
    return (i32[t + TableField.RequestCount / 4] = this.requests);
  }

  private begin(c: number, t: number): void {
    const { i32 } = this;
    this.table = t + TableField.Records / 4;
    this.segmentsAt = this.table + i32[t + TableField.RequestCapacity / 4] * RECORD;
    this.requests = 0;
    this.segments = 0;
    this.ramBase = i32[c + VqDevice.RamBase / 4] >>> 0;
    this.ramSize = i32[c + VqDevice.RamSize / 4] >>> 0;
    this.queueSize = i32[c + VqDevice.QueueSize / 4];
    this.descriptors = i32[c + VqDevice.Descriptors / 4] >>> 0;
    this.features = i32[c + VqDevice.Features / 4];
    this.abilities = i32[c + VqDevice.Abilities / 4];
    this.unit = i32[c + VqDevice.BlockSectors / 4];
    this.capacity = this.f64[(c + VqDevice.Capacity / 4) >>> 1];
    this.chain = c + VqDevice.Chain / 4;
    let stamp = (i32[c + VqDevice.Stamp / 4] >>> 0) + 1;
    if (stamp > 0xfffffe00) {
      i32.fill(0, c + VqDevice.DirectStamps / 4, c + VqDevice.Chain / 4);
      stamp = 1;
    }
    i32[c + VqDevice.FirstStamp / 4] = stamp;
    i32[c + VqDevice.Stamp / 4] = stamp;
  }

  private walk(c: number, head: number): number {
    const { i32 } = this;
    const base = this.ramBase;
    const size = this.ramSize >>> 0;
    const stamp = i32[c + VqDevice.Stamp / 4] >>> 0;
    i32[c + VqDevice.Stamp / 4] = stamp + 1;
    let table = this.descriptors;
    let limit = this.queueSize;
    let stamps = c + VqDevice.DirectStamps / 4;
    let oldest = i32[c + VqDevice.FirstStamp / 4] >>> 0;
    let indirect = false;
    let seen = 0;
    let element = this.chain;
    let readable = 0;
    let readableBytes = 0;
    let writableBytes = 0;
    let last = 0;
    let writing = false;
    let refusal: number = VqRefusal.None;
    for (let index = head; ; ) {
      if (i32[stamps + index] >>> 0 >= oldest) return VqFault.Loop;
      i32[stamps + index] = stamp;
      const at = table + index * Descriptor.Size;
      const low = this.word(at) >>> 0;
      const high = this.word(at + Descriptor.AddressHigh);
      const length = this.word(at + Descriptor.Length) >>> 0;
      const flags = this.word(at + Descriptor.Flags);
      const inRam = high === 0 && low <= size && length <= (size - low) >>> 0;
      if (flags & DescriptorFlag.Indirect && !indirect) {
        if (!(this.features & VqFeature.Indirect) || flags & DescriptorFlag.Next) return VqFault.Indirect;
        limit = length >>> 4;
        if (limit === 0 || limit > VqLimit.Chain || (length & 15) !== 0) return VqFault.IndirectLength;
        if (!inRam) return VqFault.IndirectRange;
        table = base + low;
        stamps = c + VqDevice.IndirectStamps / 4;
        oldest = stamp;
        indirect = true;
        index = 0;
        continue;
      }
      if (++seen > VqLimit.Chain) return VqFault.TooLong;
      if (flags & DescriptorFlag.Indirect) refusal = VqRefusal.NestedIndirect;
      else {
        const start = length !== 0 && inRam ? base + low : 0;
        if (start === 0) refusal = length === 0 ? VqRefusal.Empty : VqRefusal.Address;
        if (flags & DescriptorFlag.Write) {
          writing = true;
          writableBytes += length;
          last = start === 0 ? 0 : start + length - 1;
        } else {
          if (writing) refusal = VqRefusal.Order;
          readableBytes += length;
          readable++;
        }
        i32[element] = start;
        i32[element + 1] = length;
        element += 2;
      }
      if (!(flags & DescriptorFlag.Next)) break;
      index = flags >>> 16;
      if (index >= limit) return VqFault.Next;
    }
    if (last === 0) return VqFault.NoStatus;
    this.readable = readable;
    this.readableBytes = readableBytes;
    this.writableBytes = writableBytes;
    this.last = last;
    this.refusal = refusal;
    return VqFault.None;
  }

  private parse(c: number, slot: number, head: number): void {
    const { i32 } = this;
    const before = this.requests;
    i32[slot + VqSlot.StatusAddress / 4] = this.last;
    i32[slot + VqSlot.Status / 4] = BlockStatus.Ok;
    let length = Math.min(this.writableBytes, 0xffffffff);
    let refusal = this.refusal;
    if (refusal === VqRefusal.None) refusal = this.request(c, head);
    if (refusal !== VqRefusal.None) {
      this.requests = before;
      const at = this.record(BlockOp.Flush, statusOf(refusal), 0, 0, this.segments, head);
      i32[at + RequestField.Private0 / 4] = refusal;
      length = 1;
    }
    i32[slot + VqSlot.Length / 4] = length;
    i32[slot + VqSlot.Parts / 4] = this.requests - before;
  }

  private request(c: number, head: number): number {
    const { i32 } = this;
    const readable = this.readableBytes;
    if (readable < BlkHeader.Size) return VqRefusal.Header;
    let header = i32[this.chain] >>> 0;
    if (i32[this.chain + 1] >>> 0 < BlkHeader.Size) header = this.gather(c, 0, BlkHeader.Size);
    const type = this.word(header);
    const first = this.segments;
    if (type === BlkType.In || type === BlkType.Out) {
      const write = type === BlkType.Out;
      if (write && !(this.abilities & BlkAbility.Write)) return VqRefusal.ReadOnly;
      const length = write ? readable - BlkHeader.Size : this.writableBytes - 1;
      const low = this.word(header + BlkHeader.Sector);
      const offset = byteOffset(low, this.word(header + BlkHeader.Sector + 4));
      const refusal = this.checkRange(low, offset, length);
      if (refusal !== VqRefusal.None) return refusal;
      this.pushData(write ? 0 : this.readable, write ? BlkHeader.Size : 0, length);
      this.record(write ? BlockOp.Write : BlockOp.Read, BlockStatus.Pending, offset, length, first, head);
      return VqRefusal.None;
    }
    if (type === BlkType.Flush) {
      if (!(this.abilities & BlkAbility.Flush)) return VqRefusal.Type;
      this.record(BlockOp.Flush, BlockStatus.Pending, 0, 0, first, head);
      return VqRefusal.None;
    }
    if (type === BlkType.GetId) {
      const length = Math.min(BlkLimit.Identity, this.writableBytes - 1);
      this.pushData(this.readable, 0, length);
      this.record(BlockOp.GetId, BlockStatus.Pending, 0, length, first, head);
      return VqRefusal.None;
    }
    if (type === BlkType.Discard && this.abilities & BlkAbility.Discard) {
      return this.ranges(c, head, BlockOp.Discard, readable - BlkHeader.Size);
    }
    if (type === BlkType.WriteZeroes && this.abilities & BlkAbility.WriteZeroes) {
      return this.ranges(c, head, BlockOp.WriteZeroes, readable - BlkHeader.Size);
    }
    return VqRefusal.Type;
  }

  private ranges(c: number, head: number, op: number, bytes: number): number {
    if (bytes === 0 || bytes % BlkRange.Size !== 0 || bytes > VqLimit.Ranges * BlkRange.Size) return VqRefusal.Payload;
    const allowed = op === BlockOp.WriteZeroes ? BlkRangeFlag.Unmap : 0;
    for (let at: number = BlkHeader.Size; at < BlkHeader.Size + bytes; at += BlkRange.Size) {
      const range = this.gather(c, at, BlkRange.Size);
      if (this.word(range + BlkRange.Flags) & ~allowed) return VqRefusal.Payload;
      const low = this.word(range + BlkRange.Sector);
      const offset = byteOffset(low, this.word(range + BlkRange.Sector + 4));
      const length = (this.word(range + BlkRange.Sectors) >>> 0) * BlkLimit.Sector;
      const refusal = this.checkRange(low, offset, length);
      if (refusal !== VqRefusal.None) return refusal;
      this.record(op, BlockStatus.Pending, offset, length, this.segments, head);
    }
    return VqRefusal.None;
  }

  private checkRange(sectorLow: number, offset: number, length: number): number {
    const unit = this.unit;
    if ((length & (unit * BlkLimit.Sector - 1)) !== 0 || (sectorLow & (unit - 1)) !== 0) return VqRefusal.Length;
    return offset + length > this.capacity ? VqRefusal.Range : VqRefusal.None;
  }

  private gather(c: number, skip: number, length: number): number {
    const { i32, u8 } = this;
    const target = c * 4 + VqDevice.Gathered;
    let left = length;
    for (let element = this.chain; left !== 0; element += 2) {
      const bytes = i32[element + 1] >>> 0;
      if (skip >= bytes) {
        skip -= bytes;
        continue;
      }
      const take = Math.min(left, bytes - skip);
      const from = (i32[element] >>> 0) + skip;
      u8.copyWithin(target + (length - left), from, from + take);
      left -= take;
      skip = 0;
    }
    return target;
  }

  private pushData(index: number, skip: number, length: number): void {
    const { i32 } = this;
    let element = this.chain + index * 2;
    let to = this.segmentsAt + (this.segments * SegmentField.Size) / 4;
    for (let left = length; left !== 0; element += 2) {
      const bytes = i32[element + 1] >>> 0;
      if (skip >= bytes) {
        skip -= bytes;
        continue;
      }
      const take = Math.min(left, bytes - skip);
      i32[to] = i32[element] + skip;
      i32[to + 1] = take;
      to += 2;
      left -= take;
      skip = 0;
    }
    this.segments = (to - this.segmentsAt) >>> 1;
  }

  private record(op: number, status: number, offset: number, length: number, first: number, tag: number): number {
    const { i32, f64 } = this;
    const at = this.table + this.requests++ * RECORD;
    i32[at + RequestField.Op / 4] = op;
    i32[at + RequestField.Status / 4] = status;
    f64[(at >>> 1) + RequestField.Offset / 8] = offset;
    f64[(at >>> 1) + RequestField.Length / 8] = length;
    i32[at + RequestField.FirstSegment / 4] = first;
    i32[at + RequestField.Segments / 4] = this.segments - first;
    i32[at + RequestField.Tag / 4] = tag;
    i32[at + RequestField.Private0 / 4] = 0;
    i32[at + RequestField.Private1 / 4] = 0;
    i32[at + RequestField.Private2 / 4] = 0;
    i32[at + RequestField.Private3 / 4] = 0;
    return at;
  }

  complete(ctx: number, count: number): number {
    const { i32, u16, u8 } = this;
    const c = ctx >>> 2;
    const size = i32[c + VqDevice.QueueSize / 4];
    const used = i32[c + VqDevice.Used / 4];
    const slots = c + VqDevice.Slots / 4;
    const before = i32[c + VqDevice.UsedIndex / 4];
    let index = before;
    let completion = c + VqDevice.Completions / 4;
    for (let i = 0; i < count; i++, completion += VqCompletion.Size / 4) {
      const head = i32[completion];
      const slot = slots + head * SLOT;
      if (i32[slot + VqSlot.Status / 4] === BlockStatus.Ok) i32[slot + VqSlot.Status / 4] = i32[completion + 1];
      const parts = i32[slot + VqSlot.Parts / 4] - 1;
      i32[slot + VqSlot.Parts / 4] = parts;
      if (parts !== 0) continue;
      u8[i32[slot + VqSlot.StatusAddress / 4] >>> 0] = wireStatus(i32[slot + VqSlot.Status / 4]);
      const element = ((used + UsedRing.Ring) >>> 2) + (index & (size - 1)) * 2;
      i32[element] = head;
      i32[element + 1] = i32[slot + VqSlot.Length / 4];
      index = (index + 1) & 0xffff;
    }
    const available = i32[c + VqDevice.Available / 4] >>> 1;
    let answer = 0;
    if (index !== before) {
      i32[c + VqDevice.UsedIndex / 4] = index;
      u16[(used + UsedRing.Index) >>> 1] = index;
      if (i32[c + VqDevice.Features / 4] & VqFeature.EventIndex) {
        const event = u16[available + AvailableRing.Ring / 2 + size];
        if (((index - event - 1) & 0xffff) < ((index - before) & 0xffff)) answer = VqAnswer.Interrupt;
      } else if ((u16[available] & 1) === 0) answer = VqAnswer.Interrupt;
    }
    if (i32[c + VqDevice.Fault / 4] === VqFault.None) {
      if (u16[available + AvailableRing.Index / 2] !== i32[c + VqDevice.LastAvailable / 4]) answer |= VqAnswer.More;
    }
    return answer;
  }
}

/** 512 × a u64: inexact past 2^53, and then far outside any disk. */
function byteOffset(low: number, high: number): number {
  return ((high >>> 0) * 4294967296 + (low >>> 0)) * BlkLimit.Sector;
}

function statusOf(refusal: number): number {
  if (refusal === VqRefusal.Type || refusal === VqRefusal.Payload) return BlockStatus.Unsupported;
  if (refusal === VqRefusal.Range) return BlockStatus.OutOfRange;
  return refusal === VqRefusal.ReadOnly ? BlockStatus.ReadOnly : BlockStatus.Io;
}

function wireStatus(status: number): number {
  if (status === BlockStatus.Ok) return BlkStatus.Ok;
  return status === BlockStatus.Unsupported ? BlkStatus.Unsupported : BlkStatus.IoError;
}
