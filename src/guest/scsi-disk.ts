import { Asc, SenseKey } from "../../assembly/spec/mmc.ts";
import { HostStatus } from "../../assembly/spec/pvscsi.ts";
import { BlockAsc, ScsiOp, ScsiStatus, ServiceAction, VpdPage } from "../../assembly/spec/scsi.ts";
import { type BlockRequest, Op, Status } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import { SegmentList } from "../core/segments.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";
import type { BlockDriver } from "./driver.ts";
import type { PvscsiHost } from "./pvscsi.ts";
import { MAX_ELEMENTS, type ScsiResult } from "./pvscsi-rings.ts";

/** Bytes of one request: no limit of the device's, but what block layers use. */
const MAX_BYTES = 1 << 20;
/** How often a command that ends in a unit attention, or in a reset, is sent again. */
const RETRIES = 5;
/** SBC-3, UNMAP parameter list with one descriptor. */
const UNMAP_LIST = 24;

/** Driver for a SCSI disk (SBC-3), logical unit 0 of a target behind a PVSCSI adapter. */
export class ScsiDiskDriver implements BlockDriver {
  readonly name = "pvscsi";
  readonly target: number;
  readonly sectorSize: number;
  readonly depth: number;
  readonly maxBytes = MAX_BYTES;
  readonly maxSegments = MAX_ELEMENTS;
  readonly readOnly: boolean;
  /** INQUIRY's vendor, product and revision. */
  readonly inquiry: string;
  onComplete: (request: BlockRequest) => void = () => {};
  #size = 0;
  readonly #cpu: GuestCpu;
  readonly #host: PvscsiHost;
  /** Most blocks that a WRITE SAME takes (VPD page B0h); 0 when it is not there, as for UNMAP. */
  readonly #maxSame: number;
  readonly #maxUnmap: number;
  /** Parameter lists of UNMAP, a page of them. */
  readonly #lists: number;
  readonly #freeLists: number[] = [];
  #closed = false;

  /** @throws ParavaneError IO when the target does not answer as a disk does */
  constructor(cpu: GuestCpu, host: PvscsiHost, target: number) {
    this.#cpu = cpu;
    this.#host = host;
    this.target = target;
    this.depth = host.rings.entries;
    host.use();
    const page = cpu.ram.allocate(1);
    this.#lists = page;
    const inquiry = this.#ask([ScsiOp.Inquiry, 0, 0, 0, 36, 0], 36);
    if ((inquiry[0] & 0x1f) !== 0) throw new ParavaneError("UNSUPPORTED", `target ${target} is no disk`, { target });
    this.inquiry = String.fromCharCode(...inquiry.subarray(8, 36));
    this.sectorSize = this.#readCapacity();
    const limits = this.#ask([ScsiOp.Inquiry, 1, VpdPage.BlockLimits, 0, 64, 0], 64);
    this.#maxUnmap = word(limits, 20);
    this.#maxSame = word(limits, 40);
    this.readOnly = (this.#ask([ScsiOp.ModeSense6, 8, 0x3f, 0, 4, 0], 4)[2] & 0x80) !== 0;
    for (let i = 0; i < 4096 - UNMAP_LIST; i += UNMAP_LIST) this.#freeLists.push(page + i);
  }

  get size(): number {
    return this.#size;
  }

  start(requests: readonly BlockRequest[]): number {
    if (this.#closed) throw new ParavaneError("CLOSED", "the disk's driver is closed");
    let started = 0;
    let kick = false;
    const done: BlockRequest[] = [];
    for (const request of requests) {
      const supported = this.#supported(request);
      if (!supported) {
        request.status = Status.Unsupported;
        done.push(request);
      } else if (this.#send(request, 0, 0)) kick = true;
      else break;
      started++;
    }
    if (kick) this.#host.kick();
    for (const request of done) this.onComplete(request);
    return started;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#host.release();
    this.#cpu.ram.free(this.#lists, 1);
  }

  #supported({ op }: BlockRequest): boolean {
    if (op === Op.Discard) return this.#maxUnmap > 0;
    return op !== Op.WriteZeroes || this.#maxSame > 0;
  }

  /** Puts one command for the request, from byte `from` of it on, on the ring; false when that is full. */
  #send(request: BlockRequest, from: number, tries: number): boolean {
    const { op, offset, length, segments } = request;
    const lba = (offset + from) / this.sectorSize;
    let blocks = (length - from) / this.sectorSize;
    let list = 0;
    let data = segments;
    let direction: "none" | "in" | "out" = op === Op.Read ? "in" : op === Op.Write ? "out" : "none";
    let cdb: Uint8Array;
    if (op === Op.Flush) cdb = Uint8Array.of(ScsiOp.SynchronizeCache10, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    else if (op === Op.WriteZeroes) {
      blocks = Math.min(blocks, this.#maxSame);
      cdb = wide(ScsiOp.WriteSame16, lba, blocks);
      cdb[1] = 0x01; // NDOB: no block is sent, it is of zeros
    } else if (op === Op.Discard) {
      blocks = Math.min(blocks, this.#maxUnmap);
      list = this.#freeLists.pop() ?? 0;
      if (list === 0) return false;
      data = SegmentList.of(list, UNMAP_LIST);
      direction = "out";
      this.#unmapList(list, lba, blocks);
      cdb = Uint8Array.of(ScsiOp.Unmap, 0, 0, 0, 0, 0, 0, 0, UNMAP_LIST, 0);
    } else if (lba + blocks > 0xffffffff || blocks > 0xffff) {
      cdb = wide(op === Op.Read ? ScsiOp.Read16 : ScsiOp.Write16, lba, blocks);
    } else cdb = short(op === Op.Read ? ScsiOp.Read10 : ScsiOp.Write10, lba, blocks);
    const end = op === Op.Flush ? length : from + blocks * this.sectorSize;
    const done = (result: ScsiResult) => {
      if (list !== 0) this.#freeLists.push(list);
      this.#ended(request, from, end, tries, result);
    };
    const sent = this.#host.rings.submit({ target: this.target, cdb, direction, segments: data, done });
    if (!sent && list !== 0) this.#freeLists.push(list);
    return sent;
  }

  #ended(request: BlockRequest, from: number, end: number, tries: number, result: ScsiResult): void {
    const status = statusOf(result);
    const next = status === Status.Ok ? end : from;
    const again = status === Status.Pending && tries < RETRIES && !this.#closed;
    if (again || (status === Status.Ok && next < request.length)) {
      // There is room: this command has just made some.
      if (this.#send(request, next, again ? tries + 1 : 0)) {
        this.#host.kick();
        return;
      }
    }
    request.status = status === Status.Pending ? Status.Io : status;
    this.onComplete(request);
  }

  #unmapList(at: number, lba: number, blocks: number): void {
    const bytes = this.#cpu.ram.bytes(at, UNMAP_LIST);
    bytes.fill(0);
    bytes[1] = UNMAP_LIST - 2;
    bytes[3] = 16;
    bytes.set(wide(0, lba, blocks).subarray(2, 14), 8);
  }

  /** Bytes of a logical block; keeps the size. */
  #readCapacity(): number {
    const bytes = this.#ask(
      [ScsiOp.ServiceActionIn16, ServiceAction.ReadCapacity16, ...Array(11).fill(0), 32, 0, 0],
      32,
    );
    const blockSize = word(bytes, 8);
    this.#size = (word(bytes, 0) * 2 ** 32 + word(bytes, 4) + 1) * blockSize;
    return blockSize;
  }

  #ask(cdb: readonly number[], length: number): Uint8Array {
    for (let tries = 0; ; tries++) {
      const result = this.#host.callNow({
        target: this.target,
        cdb: Uint8Array.from(cdb),
        direction: "in",
        segments: SegmentList.of(this.#lists, length),
      });
      const status = statusOf(result);
      if (status === Status.Ok) return this.#cpu.ram.bytes(this.#lists, length).slice();
      if (status === Status.Pending && tries < RETRIES) continue;
      throw new ParavaneError("IO", `target ${this.target} refuses command ${cdb[0].toString(16)}h`, {
        command: cdb[0].toString(16),
        ...result,
      });
    }
  }

  /** To be called when a unit attention or the host says that the capacity has changed. */
  refresh(): void {
    this.#readCapacity();
  }
}

/** Pending: to be sent again. */
function statusOf({ host, status, sense }: ScsiResult): Status {
  if (host === HostStatus.BusReset) return Status.Pending;
  if (host !== HostStatus.Success) return Status.Io;
  if (status === ScsiStatus.Good) return Status.Ok;
  const code = (sense[12] << 8) | sense[13];
  switch (sense[2] & 0x0f) {
    case SenseKey.UnitAttention:
      return Status.Pending;
    case SenseKey.MediumError:
      return Status.Media;
    case SenseKey.DataProtect:
      return code === BlockAsc.SpaceAllocationFailed ? Status.NoSpace : Status.ReadOnly;
    case SenseKey.IllegalRequest:
      if (code === Asc.LbaOutOfRange) return Status.OutOfRange;
      return code === Asc.InvalidOperation ? Status.Unsupported : Status.Io;
    case SenseKey.AbortedCommand:
      return code === BlockAsc.LinkCrc ? Status.Crc : Status.Io;
    default:
      return Status.Io;
  }
}

function word(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
}

/** CDBs of ten and sixteen bytes, the rest of them zero; the rings copy them at once, so that one of each is enough. */
const TEN = new Uint8Array(10);
const SIXTEEN = new Uint8Array(16);

function short(code: ScsiOp, lba: number, blocks: number): Uint8Array {
  TEN.fill(0);
  TEN[0] = code;
  put32(TEN, 2, lba);
  TEN[7] = blocks >>> 8;
  TEN[8] = blocks;
  return TEN;
}

function wide(code: number, lba: number, blocks: number): Uint8Array {
  SIXTEEN.fill(0);
  SIXTEEN[0] = code;
  put32(SIXTEEN, 2, Math.floor(lba / 2 ** 32));
  put32(SIXTEEN, 6, lba);
  put32(SIXTEEN, 10, blocks);
  return SIXTEEN;
}

function put32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}
