import { AtaRegister, Prd } from "../../../../assembly/spec/ata.ts";
import {
  DriveField,
  IdeAbort,
  IdeEvent,
  IdeField,
  IdeOp,
  IdePhase,
  IdeProtocol,
} from "../../../../assembly/spec/ide.ts";
import type { BlockRequest } from "../../../core/block.ts";
import type { Later } from "../../../core/flow.ts";
import type { Clock, InterruptLine, Machine, Width } from "../../../core/machine.ts";
import type { AtaRegisters } from "../../../hypervisor/ata-registers.ts";
import { type Core, coreFor } from "../../../wasm/core.ts";
import { RequestTable } from "../../../wasm/requests.ts";
import { DataPort } from "./data-port.ts";
import type { IdeDevice } from "./device.ts";
import { type ChannelSide, DevicePort } from "./port.ts";
import { type Asked, type ChannelState, loadChannel, saveChannel } from "./save.ts";

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
  readonly data: DataPort;
  /** Bytes that went through the data port. */
  portBytes = 0;
  readonly #machine: Machine;
  readonly #table: RequestTable;
  readonly #devices: readonly (IdeDevice | null)[];
  readonly #line: InterruptLine;
  readonly #busMaster: () => boolean;
  /** What a device has been asked for and has not answered. */
  #asked: Asked = null;
  /** Told of the answer instead of the core: the channel is being closed or restored. */
  #dropped: (() => void) | null = null;
  #isClosed = false;

  /** @throws ParavaneError NO_SPACE */
  constructor(
    machine: Machine,
    interruptLine: number,
    line: InterruptLine,
    devices: readonly (IdeDevice | null)[],
    busMaster: () => boolean,
    floating: number,
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
    this.#set(IdeField.Floating, floating);
    devices.forEach((device, i) => {
      if (!device) return;
      const drive = this.context + IdeField.Drives + i * DriveField.Size;
      core.set(drive + DriveField.Kind, device.kind);
      device.plug(new DevicePort(this, i, drive));
    });
    this.#line = line;
    core.call.ideReset(this.context);
    this.data = new DataPort(core, this.context, {
      read: (width) => this.#read(AtaRegister.Data, width),
      write: (width, value) => this.#write(AtaRegister.Data, width, value),
    });
  }

  read(register: AtaRegister, width: Width): number {
    return register === AtaRegister.Data ? this.data.readPort(0, width) : this.#read(register, width);
  }

  write(register: AtaRegister, width: Width, value: number): void {
    if (register === AtaRegister.Data) this.data.writePort(0, width, value);
    else this.#write(register, width, value);
  }

  #read(register: AtaRegister, width: Width): number {
    this.data.settle();
    const answer = this.core.call.ideRead(this.context, register, width);
    this.data.open();
    if (answer < EVENT) return answer;
    this.#react(Math.floor(answer / EVENT));
    return answer % EVENT;
  }

  #write(register: AtaRegister, width: Width, value: number): void {
    this.data.settle();
    const event = this.core.call.ideWrite(this.context, register, width, value);
    this.data.open();
    if (event !== 0) this.#react(event);
  }

  /** The hardware reset wire. */
  reset(): void {
    this.core.call.ideReset(this.context);
    this.data.open();
    for (const device of this.#devices) device?.reset("power");
    this.#driveLine();
  }

  /** Lets what is in flight end, unheard. */
  close(): Later<void> {
    this.#isClosed = true;
    this.#line.set(false);
    return this.#quiet((device) => device.close?.());
  }

  save(): ChannelState {
    this.data.settle();
    return saveChannel(this.core, this.context, this.#asked, this.#devices);
  }

  /**
   * Goes on where `save` was called: what was in flight is asked for again. Waits for what this channel itself had in
   * flight, and drops it. @throws ParavaneError INVALID
   */
  restore(state: ChannelState): Later<void> {
    const later = this.#quiet((device) => device.reset("abort"));
    return later ? later.then(() => this.#load(state)) : this.#load(state);
  }

  /** Has `stop` make each device give up what it is at, and waits for an answer that is still due. */
  #quiet(stop: (device: IdeDevice) => void): Promise<void> | undefined {
    const answered = new Promise<void>((resolve) => (this.#dropped = resolve));
    for (const device of this.#devices) if (device) stop(device);
    if (this.#asked !== null) return answered;
    this.#dropped = null;
    return undefined;
  }

  #load(state: ChannelState): void {
    this.#dropped = null;
    loadChannel(this.core, this.context, state, this.#devices);
    this.data.open();
    state.devices.forEach((saved, i) => {
      this.#devices[i]?.restore(saved);
    });
    const selected = this.#selected;
    if (state.asked !== null) {
      this.#asked = state.asked;
      // What only a reset still waits for has no one left to wait for; a device that goes on by itself answers in its time.
      const ending = this.#get(IdeField.Phase) === IdePhase.Reset || this.#get(IdeField.Abort) !== IdeAbort.None;
      if (ending) this.answer(0, -1);
      else if (!selected?.goesOn) this.#react(state.asked === "io" ? IdeEvent.Io : IdeEvent.Execute);
    }
    this.#driveLine();
  }

  answer(answer: number, lba: number): void {
    this.#asked = null;
    if (this.#dropped || this.#isClosed) {
      this.#dropped?.();
      return;
    }
    const event = this.core.call.ideFinish(this.context, answer, lba);
    this.data.open();
    if (this.#get(IdeField.Phase) === IdePhase.PioIn) this.portBytes += this.#get(IdeField.BufferEnd);
    if (event !== 0) this.#react(event);
  }

  takeDma(request: BlockRequest): boolean {
    const ready = this.core.call.idePrd(this.context, this.#busMaster() ? 1 : 0) !== 0;
    if (ready) this.#table.read(0, request);
    else this.#asked = null;
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
      this.#asked = event & IdeEvent.Io ? "io" : "execute";
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
