import { type AtaRegister, Prd } from "../../../../assembly/spec/ata.ts";
import { DriveField, IdeEvent, IdeField, IdeOp, IdePhase, IdeProtocol } from "../../../../assembly/spec/ide.ts";
import type { BlockRequest } from "../../../core/block.ts";
import type { Later } from "../../../core/flow.ts";
import type { Clock, InterruptLine, Machine, Width } from "../../../core/machine.ts";
import type { AtaRegisters } from "../../../hypervisor/ata-registers.ts";
import { type Core, coreFor } from "../../../wasm/core.ts";
import { RequestTable } from "../../../wasm/requests.ts";
import type { IdeDevice } from "./device.ts";
import { type ChannelSide, DevicePort } from "./port.ts";

/** Above this, `ideRead` returns what the read has set off. */
const EVENT = 2 ** 32;

/**
 * One IDE channel with up to two devices: the core keeps its registers and decides what happens when; here the devices are
 * asked for what it wants of them, and the interrupt line is driven.
 */
export class IdeChannel implements AtaRegisters, ChannelSide {
  readonly interruptLine: number;
  readonly core: Core;
  readonly context: number;
  readonly clock: Clock;
  /** Bytes that went through the data port. */
  portBytes = 0;
  readonly #machine: Machine;
  readonly #table: RequestTable;
  readonly #devices: readonly (IdeDevice | null)[];
  readonly #line: InterruptLine;
  readonly #busMaster: () => boolean;
  /** The device that has been asked and has not answered. */
  #asked = false;
  #closed: (() => void) | null = null;
  #isClosed = false;

  /** @throws ParavaneError NO_SPACE */
  constructor(
    machine: Machine,
    interruptLine: number,
    line: InterruptLine,
    devices: readonly (IdeDevice | null)[],
    busMaster: () => boolean,
  ) {
    this.#machine = machine;
    this.interruptLine = interruptLine;
    this.#busMaster = busMaster;
    this.#devices = devices;
    this.clock = machine.clock;
    const core = coreFor(machine.memory.wasm);
    this.core = core;
    this.context = machine.memory.reserve(IdeField.Size);
    const table = machine.memory.reserve(RequestTable.bytes(1, Prd.Entries));
    this.#table = new RequestTable(core, table, 1, Prd.Entries);
    this.#set(IdeField.RamBase, machine.memory.base);
    this.#set(IdeField.RamSize, machine.memory.size);
    this.#set(IdeField.Table, table);
    devices.forEach((device, i) => {
      if (!device) return;
      const drive = this.context + IdeField.Drives + i * DriveField.Size;
      core.set(drive + DriveField.Kind, device.kind);
      device.plug(new DevicePort(this, i, drive));
    });
    this.#line = line;
    core.call.ideReset(this.context);
  }

  read(register: AtaRegister, width: Width): number {
    const answer = this.core.call.ideRead(this.context, register, width);
    if (answer < EVENT) return answer;
    this.#react(Math.floor(answer / EVENT));
    return answer % EVENT;
  }

  write(register: AtaRegister, width: Width, value: number): void {
    const event = this.core.call.ideWrite(this.context, register, width, value);
    if (event !== 0) this.#react(event);
  }

  /** The hardware reset wire. */
  reset(): void {
    this.core.call.ideReset(this.context);
    for (const device of this.#devices) device?.reset("power");
    this.#driveLine();
  }

  /** Lets what is in flight end, unheard. */
  close(): Later<void> {
    this.#isClosed = true;
    this.#line.set(false);
    for (const device of this.#devices) device?.close?.();
    if (this.#asked) return new Promise((resolve) => (this.#closed = resolve));
  }

  answer(answer: number, lba: number): void {
    this.#asked = false;
    if (this.#isClosed) {
      this.#closed?.();
      return;
    }
    const event = this.core.call.ideFinish(this.context, answer, lba);
    if (this.#get(IdeField.Phase) === IdePhase.PioIn) this.portBytes += this.#get(IdeField.BufferEnd);
    if (event !== 0) this.#react(event);
  }

  takeDma(request: BlockRequest): boolean {
    const ready = this.core.call.idePrd(this.context, this.#busMaster() ? 1 : 0) !== 0;
    if (ready) this.#table.read(0, request);
    else this.#asked = false;
    return ready;
  }

  touch({ segments }: BlockRequest): void {
    for (let i = 0; i < segments.count; i++) this.#machine.memory.touch(segments.start(i), segments.length(i));
  }

  #get(field: IdeField): number {
    return this.core.u32[(this.context + field) >>> 2];
  }
  #set(field: IdeField, value: number): void {
    this.core.set(this.context + field, value);
  }

  /** Does what the core has asked for. The line moves last, when every register tells the new state. */
  #react(event: number): void {
    if (event & (IdeEvent.Io | IdeEvent.Execute)) {
      this.#asked = true;
      if (this.#get(IdeField.Protocol) === IdeProtocol.PioOut) this.portBytes += this.#get(IdeField.BufferEnd);
      if (event & IdeEvent.Io) this.#selected?.transfer();
      else this.#execute();
    } else if (event & IdeEvent.Reset) {
      for (const device of this.#devices) device?.reset("soft");
    } else if (event & IdeEvent.Abort) this.#selected?.reset("abort");
    this.#driveLine();
  }

  #execute(): void {
    const op: IdeOp = this.#get(IdeField.Op);
    // EXECUTE DIAGNOSTIC is for both devices, whichever is selected.
    const device = op === IdeOp.Diagnostic ? this.#devices.find((each) => each) : this.#selected;
    device?.execute(op);
  }

  get #selected(): IdeDevice | null | undefined {
    return this.#devices[this.#get(IdeField.Selected)];
  }

  #driveLine(): void {
    this.#line.set(!this.#isClosed && this.#get(IdeField.Line) !== 0);
  }
}
