import { AtaCommand } from "../../assembly/spec/ata.ts";
import { PacketOp, SenseKey } from "../../assembly/spec/mmc.ts";
import { BlockRequest, Op, Status } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import { SegmentList } from "../core/segments.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";
import type { AtaChannel, PacketExchange } from "./ata/channel.ts";
import type { DriveIdentity } from "./ata/identify.ts";
import { deviceBits } from "./ata/taskfile.ts";
import type { BlockDriver } from "./driver.ts";

/** Sense data, as far as a driver looks at it. */
export interface PacketSense {
  key: SenseKey;
  /** Additional sense code and qualifier. */
  code: number;
}

export interface PacketOutcome {
  /** What the drive gave. */
  bytes: Uint8Array;
  /** Why it failed; null when it went well. */
  sense: PacketSense | null;
}

/** What the drive may move in one DRQ block: FFFEh, the most there is. */
const BYTE_COUNT = 0xfffe;
const SECTOR = 2048;
/** Commands that are told of something else than what they asked for are given again, so often. */
const TRIES = 5;
const PAGE = 4096;

/** A CD or DVD drive as Linux's sr drives it: packets by PIO or DMA, sense data after a CHECK CONDITION. */
export class AtapiDrive implements BlockDriver {
  readonly name: string;
  readonly identity: DriveIdentity;
  readonly sectorSize = SECTOR;
  readonly depth = 1;
  readonly maxBytes = 128 << 10;
  readonly maxSegments = 128;
  onComplete: (request: BlockRequest) => void = () => {};
  #size = 0;
  #busy = false;
  #closed: (() => void) | null;
  readonly #cpu: GuestCpu;
  readonly #channel: AtaChannel;
  readonly #drive: number;
  readonly #mode: "pio" | "dma";

  constructor(
    cpu: GuestCpu,
    channel: AtaChannel,
    identity: DriveIdentity,
    able: { drive: number; mode: "pio" | "dma" },
    name: string,
    closed: () => void,
  ) {
    this.#cpu = cpu;
    this.#channel = channel;
    this.identity = identity;
    this.#drive = able.drive;
    this.#mode = able.mode;
    this.name = name;
    this.#closed = closed;
  }

  /** Bytes of the medium, as `refresh` has found it; 0 without one. */
  get size(): number {
    return this.#size;
  }

  /**
   * Waits until the drive is ready or says that it is empty, and asks for the medium's size: whether there is one.
   * @throws ParavaneError IO when the drive answers otherwise
   */
  async refresh(): Promise<boolean> {
    this.#size = 0;
    for (let tries = 0; tries < TRIES; tries++) {
      const { sense } = await this.command([PacketOp.TestUnitReady]);
      if (!sense) {
        const { bytes, sense: failed } = await this.command([PacketOp.ReadCapacity], 8);
        if (failed) continue;
        const view = new DataView(bytes.buffer);
        this.#size = (view.getUint32(0) + 1) * view.getUint32(4);
        return true;
      }
      // The first answer after a change is that there is none.
      if (sense.key === SenseKey.NotReady && tries > 0) return false;
    }
    throw new ParavaneError("IO", `${this.name} does not become ready`, { command: "TEST UNIT READY" });
  }

  /** Runs a command that gives up to `length` bytes, or takes `data`. */
  async command(packet: readonly number[], length = 0, data?: Uint8Array): Promise<PacketOutcome> {
    const { bytes, error } = await this.#run(packet, length, data);
    return { bytes, sense: error === 0 ? null : await this.#sense(error) };
  }

  async #run(
    packet: readonly number[],
    length: number,
    data?: Uint8Array,
  ): Promise<{ bytes: Uint8Array; error: number }> {
    const { ram } = this.#cpu;
    const most = Math.max(length, data?.length ?? 0);
    const pages = Math.max(1, Math.ceil(most / PAGE));
    const buffer = ram.allocate(pages);
    try {
      const even = (most + 1) & ~1;
      if (data) ram.bytes(buffer, data.length).set(data);
      const exchange = await this.#exchange(packet, SegmentList.of(buffer, even), data !== undefined);
      const given = exchange.dma ? length : Math.min(length, exchange.moved);
      return { bytes: ram.bytes(buffer, given).slice(), error: exchange.error };
    } finally {
      ram.free(buffer, pages);
    }
  }

  start(requests: readonly BlockRequest[]): number {
    if (this.#busy || requests.length === 0) return 0;
    this.#busy = true;
    void this.#serve(requests[0]);
    return 1;
  }

  close(): void {
    this.#closed?.();
    this.#closed = null;
  }

  async #serve(request: BlockRequest): Promise<void> {
    request.error = null;
    try {
      request.status = await this.#read(request);
    } catch {
      request.status = Status.Io;
    }
    this.#busy = false;
    this.onComplete(request);
  }

  async #read(request: BlockRequest): Promise<Status> {
    if (request.op === Op.Flush) return Status.Ok;
    if (request.op !== Op.Read) return Status.ReadOnly;
    const lba = request.offset / SECTOR;
    const count = request.length / SECTOR;
    const be = (value: number, bytes: number) =>
      Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * (bytes - 1 - i))) & 0xff);
    const packet = [PacketOp.Read10, 0, ...be(lba, 4), 0, ...be(count, 2)];
    const { error } = await this.#exchange(packet, request.segments, false);
    if (error === 0) return Status.Ok;
    const sense = await this.#sense(error);
    if (sense.key === SenseKey.MediumError) return Status.Media;
    return sense.key === SenseKey.IllegalRequest ? Status.OutOfRange : Status.Io;
  }

  /** One packet, with its data; sectors by DMA, the little that other commands move by PIO, as atapi_check_dma has it. */
  #exchange(
    packet: readonly number[],
    segments: SegmentList,
    write: boolean,
  ): Promise<PacketExchange & { dma: boolean }> {
    const request = new BlockRequest();
    request.op = write ? Op.Write : Op.Read;
    request.length = segments.total;
    request.segments.pushSlice(segments, 0, segments.total);
    const dma = this.#mode === "dma" && segments.total >= SECTOR && isEven(segments);
    const bytes = new Uint8Array(12);
    bytes.set(packet);
    const exchange = { bytes, moved: 0, error: 0, dma };
    const taskfile = {
      command: AtaCommand.Packet,
      features: dma ? 1 : 0,
      count: 0,
      lba: BYTE_COUNT << 8,
      device: deviceBits(this.#drive),
      ext: false,
      addressed: true,
      protocol: dma ? ("dma" as const) : ("pio" as const),
      write,
    };
    return new Promise((resolve) => {
      const done = ({ status }: BlockRequest) => {
        // A failure without an Error register: the bus master could not reach memory.
        if (status !== Status.Ok && exchange.error === 0) exchange.error = SenseKey.HardwareError << 4;
        resolve(exchange);
      };
      this.#channel.submit({ taskfile, request, block: SECTOR, packet: exchange, done });
    });
  }

  /** REQUEST SENSE; when that fails too, what the Error register says. */
  async #sense(error: number): Promise<PacketSense> {
    const { bytes, error: failed } = await this.#run([PacketOp.RequestSense, 0, 0, 0, 18], 18);
    if (failed !== 0 || bytes.length < 14) return { key: (error >> 4) as SenseKey, code: 0 };
    return { key: (bytes[2] & 0x0f) as SenseKey, code: (bytes[12] << 8) | bytes[13] };
  }
}

/** The bus master moves words at even addresses. */
function isEven(segments: SegmentList): boolean {
  for (let i = 0; i < segments.count; i++) if (((segments.start(i) | segments.length(i)) & 1) !== 0) return false;
  return true;
}
