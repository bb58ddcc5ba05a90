import { BlockOp, BlockStatus } from "../../assembly/spec/request.ts";
import { BlkStatus, BlkType } from "../../assembly/spec/virtio.ts";
import { BlkAbility, VqAnswer, VqDevice, VqFault, VqFeature, VqRefusal } from "../../assembly/spec/virtqueue.ts";

/** A piece of guest memory: linear address, bytes. */
type Run = [start: number, length: number];

export interface ExpectedRecord {
  head: number;
  op: number;
  status: number;
  offset: number;
  length: number;
  segments: Run[];
  refusal: number;
}

/** What one consume must leave behind. */
export interface Consumed {
  records: ExpectedRecord[];
  /** Why there are not more: the table would not hold the widest request. */
  full: boolean;
  /** Bytes written to guest memory, by linear address. */
  writes: Map<number, number>;
}

export interface Completed {
  answer: number;
  writes: Map<number, number>;
  /** Status bytes of the requests that are finished. */
  statuses: number[];
}

/**
 * What a virtio-blk device makes of its ring, said once more and plainly, from the specification: the judge of the core.
 * Set-up (where the rings are, what was negotiated) is taken from the context, everything else is kept here.
 */
export class VirtqueueModel {
  last = 0;
  used = 0;
  fault: number = VqFault.None;
  readonly inFlight = new Map<number, { parts: number; status: number; statusAt: number; length: number }>();
  readonly #memory: DataView;
  readonly #context: number;
  readonly #base: number;
  readonly #size: number;

  constructor(memory: { wasm: WebAssembly.Memory; base: number; size: number }, context: number) {
    this.#memory = new DataView(memory.wasm.buffer);
    this.#context = context;
    this.#base = memory.base;
    this.#size = memory.size;
  }

  /** The queue starts anew. */
  restart(index: number): void {
    this.last = this.used = index;
    this.fault = VqFault.None;
    this.inFlight.clear();
  }

  consume(): Consumed {
    const consumed: Consumed = { records: [], full: false, writes: new Map() };
    if (this.fault !== VqFault.None) return consumed;
    const size = this.#field(VqDevice.QueueSize);
    const available = this.#field(VqDevice.Available);
    const index = this.#memory.getUint16(available + 2, true);
    if (((index - this.last) & 0xffff) > size) {
      this.fault = VqFault.AvailableIndex;
      return consumed;
    }
    const seen = new Set<number>();
    let segments = 0;
    while (this.last !== index) {
      consumed.full = consumed.records.length > 288 - 32 || segments > 2048 - 256;
      if (consumed.full) break;
      const head = this.#memory.getUint16(available + 4 + 2 * (this.last % size), true);
      this.last = (this.last + 1) & 0xffff;
      const before = consumed.records.length;
      this.fault = head >= size ? VqFault.Head : this.inFlight.has(head) ? VqFault.HeadBusy : VqFault.None;
      if (this.fault === VqFault.None) this.fault = this.#request(head, seen, consumed);
      if (this.fault !== VqFault.None) break;
      for (const record of consumed.records.slice(before)) segments += record.segments.length;
    }
    if ((this.#field(VqDevice.Features) & VqFeature.EventIndex) !== 0) {
      put(consumed.writes, this.#field(VqDevice.Used) + 4 + 8 * size, 2, this.last);
    }
    return consumed;
  }

  complete(entries: readonly (readonly [head: number, status: number])[]): Completed {
    const writes = new Map<number, number>();
    const statuses: number[] = [];
    const size = this.#field(VqDevice.QueueSize);
    const available = this.#field(VqDevice.Available);
    const ring = this.#field(VqDevice.Used);
    const before = this.used;
    for (const [head, status] of entries) {
      const request = this.inFlight.get(head)!;
      if (request.status === BlockStatus.Ok) request.status = status;
      if (--request.parts > 0) continue;
      this.inFlight.delete(head);
      const wire =
        request.status === BlockStatus.Ok
          ? BlkStatus.Ok
          : request.status === BlockStatus.Unsupported
            ? BlkStatus.Unsupported
            : BlkStatus.IoError;
      statuses.push(wire);
      put(writes, request.statusAt, 1, wire);
      put(writes, ring + 4 + 8 * (this.used % size), 4, head);
      put(writes, ring + 8 + 8 * (this.used % size), 4, request.length);
      this.used = (this.used + 1) & 0xffff;
    }
    let answer = 0;
    if (this.used !== before) {
      put(writes, ring + 2, 2, this.used);
      if ((this.#field(VqDevice.Features) & VqFeature.EventIndex) !== 0) {
        const event = this.#word(writes, available + 4 + 2 * size);
        // Passed: one of the indexes before, before + 1, … used − 1.
        for (let at = before; at !== this.used; at = (at + 1) & 0xffff) if (at === event) answer = VqAnswer.Interrupt;
      } else if (this.#word(writes, available) % 2 === 0) answer = VqAnswer.Interrupt;
    }
    const more = this.fault === VqFault.None && this.#word(writes, available + 2) !== this.last;
    return { answer: answer | (more ? VqAnswer.More : 0), writes, statuses };
  }

  #request(head: number, seen: Set<number>, consumed: Consumed): number {
    const readable: Run[] = [];
    const writable: Run[] = [];
    const walk = this.#walk(head, seen, readable, writable);
    if (walk.fault !== VqFault.None) return walk.fault;
    const [lastStart, lastLength] = writable[writable.length - 1] ?? [0, 0];
    if (lastStart === 0) return VqFault.NoStatus;
    const written = total(writable);
    const before = consumed.records.length;
    const refusal = walk.refusal || this.#parse(head, readable, writable, consumed);
    if (refusal !== VqRefusal.None) {
      consumed.records.length = before;
      const unsupported = refusal === VqRefusal.Type || refusal === VqRefusal.Payload;
      let status: number = unsupported ? BlockStatus.Unsupported : BlockStatus.Io;
      if (refusal === VqRefusal.Range) status = BlockStatus.OutOfRange;
      if (refusal === VqRefusal.ReadOnly) status = BlockStatus.ReadOnly;
      consumed.records.push({ head, op: BlockOp.Flush, status, offset: 0, length: 0, segments: [], refusal });
    }
    this.inFlight.set(head, {
      parts: consumed.records.length - before,
      status: BlockStatus.Ok,
      statusAt: lastStart + lastLength - 1,
      length: refusal === VqRefusal.None ? Math.min(written, 0xffffffff) : 1,
    });
    return VqFault.None;
  }

  /** Elements that cannot be used have a start of 0. */
  #walk(head: number, seen: Set<number>, readable: Run[], writable: Run[]): { fault: number; refusal: number } {
    let refusal: number = VqRefusal.None;
    let table = this.#field(VqDevice.Descriptors);
    let limit = this.#field(VqDevice.QueueSize);
    let visited = seen;
    let nested = false;
    const end = (fault: number) => ({ fault, refusal });
    for (let index = head, elements = 0; ; ) {
      if (visited.has(index)) return end(VqFault.Loop);
      visited.add(index);
      const at = table + 16 * index;
      const high = this.#memory.getUint32(at + 4, true);
      const length = this.#memory.getUint32(at + 8, true);
      const flags = this.#memory.getUint16(at + 12, true);
      const next = this.#memory.getUint16(at + 14, true);
      const start = this.#translate(this.#memory.getUint32(at, true), high, length);
      const [hasNext, isWrite, isTable] = [(flags & 1) !== 0, (flags & 2) !== 0, (flags & 4) !== 0];
      if (isTable && !nested) {
        if ((this.#field(VqDevice.Features) & VqFeature.Indirect) === 0 || hasNext) return end(VqFault.Indirect);
        if (length === 0 || length > 256 * 16 || length % 16 !== 0) return end(VqFault.IndirectLength);
        if (start === 0) return end(VqFault.IndirectRange);
        [table, limit, visited, nested, index] = [start, length / 16, new Set(), true, 0];
        continue;
      }
      if (++elements > 256) return end(VqFault.TooLong);
      if (isTable) refusal = VqRefusal.NestedIndirect;
      else {
        if (length === 0) refusal = VqRefusal.Empty;
        else if (start === 0) refusal = VqRefusal.Address;
        if (!isWrite && writable.length > 0) refusal = VqRefusal.Order;
        (isWrite ? writable : readable).push([length === 0 ? 0 : start, length]);
      }
      if (!hasNext) return end(VqFault.None);
      if (next >= limit) return end(VqFault.Next);
      index = next;
    }
  }

  #parse(head: number, readable: Run[], writable: Run[], consumed: Consumed): number {
    const out = total(readable) - 16;
    if (out < 0) return VqRefusal.Header;
    const header = this.#bytes(readable, 0, 16);
    const type = header.getUint32(0, true);
    const sector = Number(header.getBigUint64(8, true));
    const abilities = this.#field(VqDevice.Abilities);
    const push = (op: number, status: number, at: number, length: number, segments: Run[]) =>
      consumed.records.push({ head, op, status, offset: at * 512, length, segments, refusal: VqRefusal.None });
    switch (type) {
      case BlkType.In:
      case BlkType.Out: {
        const write = type === BlkType.Out;
        if (write && (abilities & BlkAbility.Write) === 0) return VqRefusal.ReadOnly;
        const length = write ? out : total(writable) - 1;
        const refusal = this.#check(header.getBigUint64(8, true), length);
        if (refusal !== VqRefusal.None) return refusal;
        const segments = write ? slice(readable, 16, length) : slice(writable, 0, length);
        push(write ? BlockOp.Write : BlockOp.Read, BlockStatus.Pending, sector, length, segments);
        return VqRefusal.None;
      }
      case BlkType.Flush:
        if ((abilities & BlkAbility.Flush) === 0) return VqRefusal.Type;
        push(BlockOp.Flush, BlockStatus.Pending, 0, 0, []);
        return VqRefusal.None;
      case BlkType.GetId: {
        const segments = slice(writable, 0, Math.min(20, total(writable) - 1));
        push(BlockOp.GetId, BlockStatus.Pending, 0, total(segments), segments);
        return VqRefusal.None;
      }
      case BlkType.Discard:
      case BlkType.WriteZeroes: {
        const zero = type === BlkType.WriteZeroes;
        if ((abilities & (zero ? BlkAbility.WriteZeroes : BlkAbility.Discard)) === 0) return VqRefusal.Type;
        if (out === 0 || out % 16 !== 0 || out > 32 * 16) return VqRefusal.Payload;
        for (let at = 0; at < out; at += 16) {
          const range = this.#bytes(readable, 16 + at, 16);
          if (range.getUint32(12, true) > (zero ? 1 : 0)) return VqRefusal.Payload;
          const length = range.getUint32(8, true) * 512;
          const refusal = this.#check(range.getBigUint64(0, true), length);
          if (refusal !== VqRefusal.None) return refusal;
          const first = Number(range.getBigUint64(0, true));
          push(zero ? BlockOp.WriteZeroes : BlockOp.Discard, BlockStatus.Pending, first, length, []);
        }
        return VqRefusal.None;
      }
      default:
        return VqRefusal.Type;
    }
  }

  #check(sector: bigint, length: number): number {
    const unit = this.#field(VqDevice.BlockSectors);
    if (length % (unit * 512) !== 0 || sector % BigInt(unit) !== 0n) return VqRefusal.Length;
    const capacity = BigInt(this.#memory.getFloat64(this.#context + VqDevice.Capacity, true));
    return sector * 512n + BigInt(length) > capacity ? VqRefusal.Range : VqRefusal.None;
  }

  #translate(low: number, high: number, length: number): number {
    return high === 0 && low + length <= this.#size ? this.#base + low : 0;
  }

  #bytes(runs: Run[], skip: number, count: number): DataView {
    const bytes = new Uint8Array(count);
    let to = 0;
    for (const [start, length] of slice(runs, skip, count)) {
      for (let i = 0; i < length; i++) bytes[to++] = this.#memory.getUint8(start + i);
    }
    return new DataView(bytes.buffer);
  }

  #field(offset: number): number {
    return this.#memory.getUint32(this.#context + offset, true);
  }

  /** A u16 as it reads once `writes` have been made. */
  #word(writes: Map<number, number>, at: number): number {
    const byte = (address: number) => writes.get(address) ?? this.#memory.getUint8(address);
    return byte(at) | (byte(at + 1) << 8);
  }
}

function put(writes: Map<number, number>, at: number, bytes: number, value: number): void {
  for (let i = 0; i < bytes; i++) writes.set(at + i, (value >>> (8 * i)) & 0xff);
}

function total(runs: readonly Run[]): number {
  return runs.reduce((sum, [, length]) => sum + length, 0);
}

/** `count` bytes of `runs`, from byte `skip` on. */
function slice(runs: readonly Run[], skip: number, count: number): Run[] {
  const found: Run[] = [];
  for (const [start, length] of runs) {
    const from = Math.min(skip, length);
    const take = Math.min(count, length - from);
    if (take > 0) found.push([start + from, take]);
    skip -= from;
    count -= take;
  }
  return found;
}
