import { type AtaRegister, Prd } from "../../../../assembly/spec/ata.ts";
import { DriveField, IdeEvent, IdeField, IdeLimit, IdeOp, IdeProtocol } from "../../../../assembly/spec/ide.ts";
import { type Block, BlockRequest, Op, Status } from "../../../core/block.ts";
import type { Later } from "../../../core/flow.ts";
import type { InterruptLine, Machine, Width } from "../../../core/machine.ts";
import type { AtaRegisters } from "../../../hypervisor/ata-registers.ts";
import { type Core, coreFor } from "../../../wasm/core.ts";
import { RequestTable } from "../../../wasm/requests.ts";
import { executeCommand } from "./commands.ts";
import { configureDrive, type IdeDriveOptions, powerOn } from "./drive.ts";

/** How a batch can end without saying so in its requests: the block was closed, or broke its contract. */
const LOST = new Set<Status>([Status.Pending]);

/** Above this, `ideRead` returns what the read has set off. */
const EVENT = 2 ** 32;

/**
 * One IDE channel with up to two drives: the core keeps its registers and decides what happens when; here the media are
 * moved, commands without media are carried out and the interrupt line is driven.
 */
export class IdeChannel implements AtaRegisters {
  readonly interruptLine: number;
  /** Bytes that went through the data port. */
  portBytes = 0;
  readonly #machine: Machine;
  readonly #core: Core;
  readonly #context: number;
  readonly #table: RequestTable;
  readonly #blocks: (Block | null)[] = [null, null];
  readonly #line: InterruptLine;
  readonly #busMaster: () => boolean;
  readonly #request = new BlockRequest();
  readonly #flush = new BlockRequest();
  #pending: Promise<void> | null = null;
  #closed = false;

  /** @throws ParavaneError INVALID, UNSUPPORTED (a drive's options), NO_SPACE */
  constructor(
    machine: Machine,
    interruptLine: number,
    drives: readonly (IdeDriveOptions | undefined)[],
    firstIndex: number,
    busMaster: () => boolean,
  ) {
    this.#machine = machine;
    this.interruptLine = interruptLine;
    this.#busMaster = busMaster;
    const core = coreFor(machine.memory.wasm);
    this.#core = core;
    this.#context = machine.memory.reserve(IdeField.Size);
    const table = machine.memory.reserve(RequestTable.bytes(1, Prd.Entries));
    this.#table = new RequestTable(core, table, 1, Prd.Entries);
    this.#set(IdeField.RamBase, machine.memory.base);
    this.#set(IdeField.RamSize, machine.memory.size);
    this.#set(IdeField.Table, table);
    drives.forEach((drive, i) => {
      if (!drive) return;
      this.#blocks[i] = drive.block;
      configureDrive(core, this.#drive(i), drive, firstIndex + i);
    });
    this.#flush.op = Op.Flush;
    this.#line = machine.interrupt(interruptLine);
    core.call.ideReset(this.#context);
  }

  read(register: AtaRegister, width: Width): number {
    const answer = this.#core.call.ideRead(this.#context, register, width);
    if (answer < EVENT) return answer;
    this.#react(Math.floor(answer / EVENT));
    return answer % EVENT;
  }

  write(register: AtaRegister, width: Width, value: number): void {
    const event = this.#core.call.ideWrite(this.#context, register, width, value);
    if (event !== 0) this.#react(event);
  }

  /** The hardware reset wire. */
  reset(): void {
    for (let i = 0; i < 2; i++) if (this.#blocks[i]) powerOn(this.#core, this.#drive(i));
    this.#core.call.ideReset(this.#context);
    this.#driveLine();
  }

  /** Lets I/O in flight end, unheard. */
  close(): Later<void> {
    this.#closed = true;
    this.#line.set(false);
    return this.#pending ?? undefined;
  }

  #get(field: IdeField): number {
    return this.#core.u32[(this.#context + field) >>> 2];
  }
  #set(field: IdeField, value: number): void {
    this.#core.set(this.#context + field, value);
  }
  #drive(index: number): number {
    return this.#context + IdeField.Drives + index * DriveField.Size;
  }
  get #selected(): number {
    return this.#get(IdeField.Selected);
  }

  /** Does what the core has asked for. The line moves last, when every register tells the new state. */
  #react(event: number): void {
    if (event & IdeEvent.Io) this.#moveData();
    else if (event & IdeEvent.Execute) this.#execute();
    this.#driveLine();
  }

  #driveLine(): void {
    this.#line.set(!this.#closed && this.#get(IdeField.Line) !== 0);
  }

  #execute(): void {
    const verdict = executeCommand(this.#get(IdeField.Op), {
      core: this.#core,
      channel: this.#context,
      drive: this.#drive(this.#selected),
      traits: this.#get(IdeField.Traits),
    });
    if (verdict === "flush") this.#submit([this.#flush]);
    else this.#core.call.ideFinish(this.#context, verdict, -1);
  }

  #moveData(): void {
    const op: IdeOp = this.#get(IdeField.Op);
    if (op === IdeOp.Flush) {
      this.#submit([this.#flush]);
      return;
    }
    if (this.#get(IdeField.Protocol) === IdeProtocol.Dma) {
      if (this.#core.call.idePrd(this.#context, this.#busMaster() ? 1 : 0) === 0) return;
      this.#table.read(0, this.#request);
      if (op === IdeOp.Read) this.#touch();
    } else this.#throughBuffer(op);
    const durable = op === IdeOp.Write && this.#core.get(this.#drive(this.#selected) + DriveField.WriteCache) === 0;
    this.#submit(durable ? [this.#request, this.#flush] : [this.#request]);
  }

  /** PIO data stand in the channel's buffer; what a verify reads goes there to be forgotten. */
  #throughBuffer(op: IdeOp): void {
    const request = this.#request;
    const sectors = this.#get(IdeField.Moving);
    const buffer = this.#context + IdeField.Buffer;
    const room = IdeLimit.Multiple * IdeLimit.SectorBytes;
    request.op = op === IdeOp.Write ? Op.Write : Op.Read;
    request.offset = (this.#get(IdeField.Lba) + this.#get(IdeField.Lba + 4) * 2 ** 32) * IdeLimit.SectorBytes;
    request.length = sectors * IdeLimit.SectorBytes;
    request.memory = this.#core.u8;
    request.segments.clear();
    for (let left = request.length; left > 0; left -= room) request.segments.push(buffer, Math.min(left, room));
    if (op !== IdeOp.Verify) this.portBytes += request.length;
  }

  /** An emulator must know which of its pages a device is about to change. */
  #touch(): void {
    const { segments } = this.#request;
    for (let i = 0; i < segments.count; i++) this.#machine.memory.touch(segments.start(i), segments.length(i));
  }

  #submit(batch: readonly BlockRequest[]): void {
    for (const request of batch) {
      request.status = Status.Pending;
      request.error = null;
    }
    const block = this.#blocks[this.#selected];
    let later: Later<void>;
    try {
      later = block?.submit(batch);
    } catch {
      // The block has been closed under us: its requests stay pending, which counts as lost below.
      later = undefined;
    }
    if (later) {
      const ended = () => {
        this.#pending = null;
        if (this.#closed) return;
        this.#complete(batch);
        this.#driveLine();
      };
      this.#pending = later.then(ended, ended);
    } else this.#complete(batch);
  }

  #complete(batch: readonly BlockRequest[]): void {
    const failed = batch.find((request) => request.status !== Status.Ok);
    const status = failed === undefined ? Status.Ok : LOST.has(failed.status) ? Status.Io : failed.status;
    this.#core.call.ideFinish(this.#context, status, failed === undefined ? -1 : failedSector(failed));
  }
}

/** The sector a failure names, when it names one inside the request; else -1. */
function failedSector({ error, offset, length }: BlockRequest): number {
  const at = error?.context.file === undefined ? error?.context.offset : undefined;
  return at !== undefined && at >= offset && at < offset + length ? Math.floor(at / IdeLimit.SectorBytes) : -1;
}
