import {
  AtaCommand,
  AtaConfigurable,
  AtaDevice,
  AtaError,
  AtaRegister,
  AtaStatus,
  AtaTransfer,
} from "../../../../../assembly/spec/ata.ts";
import { CommandBits, DriveField, IdeField, IdeLimit, IdeOp, IdeProtocol } from "../../../../../assembly/spec/ide.ts";
import { type Block, BlockRequest, Op, Status } from "../../../../core/block.ts";
import { ParavaneError } from "../../../../core/error.ts";
import type { IdeDevice, Plain, ResetKind } from "../device.ts";
import type { DevicePort } from "../port.ts";
import { readBuffer, writeBuffer } from "./buffer.ts";
import { readNativeMax, setMax } from "./capacity.ts";
import { type AtaCommandHandler, type AtaDisk, offers, reply } from "./command.ts";
import { deviceConfiguration } from "./configuration.ts";
import { eraseSectors, metadata, requestError, senseCondition, translateSector } from "./flash.ts";
import { identifyDisk } from "./identify.ts";
import { logByDma, readLogExt, writeLogExt } from "./log.ts";
import { MediaAccess } from "./media.ts";
import { configOf, type DriveConfig, type IdeDriveOptions } from "./options.ts";
import { checkPower, power, wake } from "./power.ts";
import { type Cartridge, ejectMedia, mediaCommand, mediaError } from "./removable.ts";
import { security, securityAtPowerOn } from "./security.ts";
import { forgetTimer, interruptTest, resumeTest } from "./self-test.ts";
import { initializeParameters, setFeatures, setMultiple } from "./settings.ts";
import { smart } from "./smart.ts";
import { lifeHours, logError } from "./smart-state.ts";
import { type DiskState, fromPlain, newSetMax, newState, toPlain } from "./state.ts";
import { dataSetManagement, trim } from "./trim.ts";
import { firstBad, forget, writeUncorrectable } from "./uncorrectable.ts";

/** What each command that is the disk's own does, by IdeOp. */
const COMMANDS: Partial<Record<IdeOp, AtaCommandHandler>> = {
  [IdeOp.Identify]: (disk) => reply(disk, new Uint8Array(identifyDisk(disk).buffer)),
  [IdeOp.SetFeatures]: setFeatures,
  [IdeOp.SetMultiple]: setMultiple,
  [IdeOp.InitializeParameters]: initializeParameters,
  [IdeOp.ReadNativeMax]: readNativeMax,
  [IdeOp.SetMax]: setMax,
  // The core writes both drives' signatures when it ends the command.
  [IdeOp.Diagnostic]: () => true,
  [IdeOp.CheckPower]: checkPower,
  [IdeOp.Power]: (disk) => {
    const verdict = power(disk);
    if (disk.state.standby) interruptTest(disk, false);
    return verdict;
  },
  [IdeOp.Nothing]: () => true,
  [IdeOp.ReadBuffer]: readBuffer,
  [IdeOp.WriteBuffer]: writeBuffer,
  [IdeOp.Security]: security,
  [IdeOp.Configuration]: deviceConfiguration,
  [IdeOp.ReadLog]: readLogExt,
  [IdeOp.WriteLog]: writeLogExt,
  [IdeOp.WriteUncorrectable]: writeUncorrectable,
  [IdeOp.Smart]: smart,
  [IdeOp.DataSetManagement]: dataSetManagement,
  [IdeOp.CfaRequestError]: requestError,
  [IdeOp.CfaTranslate]: translateSector,
  [IdeOp.CfaErase]: eraseSectors,
  [IdeOp.Metadata]: metadata,
  [IdeOp.SenseCondition]: senseCondition,
  [IdeOp.MediaStatus]: mediaCommand,
};

/** A disk or a CompactFlash card: its media is a block, the settings that the core decides by stand in its drive fields. */
export class IdeDisk implements IdeDevice, AtaDisk {
  readonly kind: DriveConfig["kind"];
  readonly config: DriveConfig;
  readonly options: IdeDriveOptions;
  port!: DevicePort;
  state!: DiskState;
  readonly #request = new BlockRequest();
  readonly #flush = new BlockRequest();
  readonly #alone = [this.#request];
  readonly #durable = [this.#request, this.#flush];
  readonly #media: MediaAccess;

  /** `index` numbers the drives of a controller. @throws ParavaneError INVALID, UNSUPPORTED */
  constructor(options: IdeDriveOptions, index: number) {
    this.options = options;
    this.config = configOf(options, index);
    this.kind = this.config.kind;
    this.#flush.op = Op.Flush;
    this.#media = new MediaAccess(this.config);
  }

  plug(port: DevicePort): void {
    const { config } = this;
    this.port = port;
    this.state = newState(config, port.clock.now());
    port.set(DriveField.SectorBytes, config.sectorBytes);
    port.set(DriveField.Cylinders, config.cylinders);
    port.set(DriveField.Heads, config.heads);
    port.set(DriveField.SectorsPerTrack, config.sectorsPerTrack);
    this.#powerOn();
  }

  publish(): void {
    const { port, state } = this;
    port.setWide(DriveField.Sectors, state.visible);
    const locked = state.security.locked ? CommandBits.Lockable : 0;
    port.set(DriveField.Refused, locked | (offers(this, AtaConfigurable.Ext) ? 0 : CommandBits.Ext));
  }

  execute(op: IdeOp): void {
    const { port, state } = this;
    const nativeMaxRead = state.nativeMaxRead;
    const prepared = state.security.prepared;
    const verdict = COMMANDS[op]?.(this) ?? false;
    // What must come right before SET MAX, or before SECURITY ERASE UNIT, is forgotten by any other command.
    if (nativeMaxRead && op !== IdeOp.ReadNativeMax) state.nativeMaxRead = false;
    if (prepared && op !== IdeOp.Security) state.security.prepared = false;
    if (verdict === "flush") this.submit([this.#flush], (status) => port.finish(status));
    else if (verdict === true) port.done();
    else if (verdict === false) port.fail(AtaError.Abort);
  }

  transfer(): void {
    const { port, state } = this;
    const op = port.op;
    wake(state, port.clock);
    state.nativeMaxRead = false;
    state.security.prepared = false;
    const error = mediaError(this);
    if (error !== 0) port.fail(error);
    else if (op === IdeOp.Flush) this.submit([this.#flush], (status) => port.finish(status));
    else if (op > IdeOp.Flush) this.#ownDma(op);
    else this.#moveSectors(op);
  }

  reset(kind: ResetKind): void {
    const { state } = this;
    interruptTest(this, true);
    state.nativeMaxRead = false;
    state.security.prepared = false;
    state.security.erasing = null;
    this.#media.cancel();
    if (kind === "power") {
      state.smart.powerCycles = Math.min(0xffff, state.smart.powerCycles + 1);
      this.#powerOn();
    }
    if (kind === "soft" && state.reverts) this.#defaults();
  }

  close(): void {
    interruptTest(this, true);
    this.#media.cancel();
  }

  /** The slot of a removable drive. */
  get cartridge(): Cartridge | null {
    if (!this.config.removable) return null;
    const disk = this;
    return {
      get isPresent() {
        return disk.state.media.present;
      },
      get isLocked() {
        return disk.state.media.locked;
      },
      insert: (block) => this.#insert(block),
      eject: ({ force = false } = {}) => ejectMedia(this, force),
    };
  }

  /** Another medium: what had to do with the old one goes with it. */
  #insert(block: Block): void {
    const { config, options } = this;
    if (block.sectorSize !== config.sectorBytes) {
      throw new ParavaneError(
        "INVALID",
        `this drive has sectors of ${config.sectorBytes} bytes, not ${block.sectorSize}`,
        {
          sectorSize: block.sectorSize,
        },
      );
    }
    const { visibleSectors, ...rest } = options;
    Object.assign(config, configOf({ ...rest, block }, 0), { serial: config.serial });
    const { state, port } = this;
    state.media = { present: true, changed: true, requested: false, locked: false };
    state.uncorrectable = [];
    state.configuration.sectors = config.sectors;
    state.visible = config.sectors;
    state.visibleAtPowerOn = config.sectors;
    port.set(DriveField.Cylinders, config.cylinders);
    port.set(DriveField.Heads, config.heads);
    port.set(DriveField.SectorsPerTrack, config.sectorsPerTrack);
    this.publish();
  }

  /** The host has dealt with what a command under the `stop` policy waits for: it is tried again. */
  resume(): void {
    this.#media.resume();
  }

  /** Commands that wait for `resume`. */
  get stopped(): boolean {
    return this.#media.stopped;
  }

  save(): Plain {
    const { state } = this;
    const now = this.port.clock.now();
    const test = state.smart.test && { ...state.smart.test, due: Math.max(0, state.smart.test.due - now) };
    const smart = { ...state.smart, test, earlier: state.smart.earlier + now - state.smart.poweredOn, poweredOn: 0 };
    // Times become ages: the clock of the machine that restores it is another.
    return toPlain({ ...state, lastCommand: now - state.lastCommand, smart });
  }

  restore(state: Plain): void {
    forgetTimer(this);
    const now = this.port.clock.now();
    this.state = fromPlain(state) as DiskState;
    this.state.lastCommand = now - this.state.lastCommand;
    this.state.smart.poweredOn = now;
    this.publish();
    resumeTest(this);
  }

  /** A captive self-test has its clock; whatever else was under way is begun again, an erase from the start. */
  get goesOn(): boolean {
    return this.state.smart.test?.captive === true;
  }

  /** What power-on and the reset wire restore. */
  #powerOn(): void {
    const { state, config } = this;
    state.visible = state.visibleAtPowerOn;
    state.setMax = newSetMax();
    state.configuration.frozen = false;
    securityAtPowerOn(state.security);
    this.#defaults();
    state.apm = Math.max(0, config.apm);
    state.aam = Math.max(0, config.aam);
    state.standby = false;
    state.standbyAfter = 0;
    state.reverts = false;
    this.publish();
  }

  #defaults(): void {
    const { port, config } = this;
    const { modes } = config;
    const kind = modes.ultra >= 0 ? AtaTransfer.UltraDma | modes.ultra : AtaTransfer.MultiWordDma | modes.multiWord;
    port.set(DriveField.Multiple, Math.min(IdeLimit.Multiple, config.multiple));
    port.set(DriveField.TransferMode, modes.ultra < 0 && modes.multiWord < 0 ? AtaTransfer.PioFlow | modes.pio : kind);
    port.set(DriveField.WriteCache, config.writeCache ? 1 : 0);
    port.set(DriveField.ReadAhead, 1);
    port.set(DriveField.BytePort, 0);
  }

  #moveSectors(op: IdeOp): void {
    const { port, state, config } = this;
    const request = this.#request;
    const dma = port.channelField(IdeField.Protocol) === IdeProtocol.Dma;
    // Of all transfers only Ultra DMA's have a CRC (§9.15).
    request.unchecked = !dma || (port.get(DriveField.TransferMode) & AtaTransfer.Kind) !== AtaTransfer.UltraDma;
    if (dma) {
      if (!port.takeDma(request)) return;
      if (op === IdeOp.Read) port.touch(request);
    } else this.#throughBuffer(op);
    const from = request.offset / config.sectorBytes;
    const to = from + request.length / config.sectorBytes;
    const bad = op === IdeOp.Write ? -1 : firstBad(state, from, to);
    if (bad >= 0) {
      this.#ended(op, Status.Media, bad);
      return;
    }
    if (op === IdeOp.Write) forget(state, from, to);
    const { command } = port;
    const forced = command === AtaCommand.WriteDmaFuaExt || command === AtaCommand.WriteMultipleFuaExt;
    const durable = op === IdeOp.Write && (forced || port.get(DriveField.WriteCache) === 0);
    this.submit(durable ? this.#durable : this.#alone, (status, lba) => this.#ended(op, status, lba));
  }

  #ended(op: IdeOp, status: Status, lba: number): void {
    const { port, state } = this;
    if (status !== Status.Ok && op !== IdeOp.Flush) {
      const at = lba >= 0 ? lba : wide(port, IdeField.Lba);
      if (status === Status.Media && op !== IdeOp.Write)
        state.smart.readErrors = Math.min(0xffff, state.smart.readErrors + 1);
      if (status === Status.Crc) state.smart.crcErrors = Math.min(0xffff, state.smart.crcErrors + 1);
      port.finish(status, lba);
      this.#log(at);
    } else port.finish(status, lba);
  }

  /**
   * SMART keeps how a media command failed (ATA/ATAPI-6 §6.14): UNC, faults, and IDNF of a sector that is there. A command
   * that names sectors past the end is faulty itself, which the logs do not keep; the core ends it without asking here.
   */
  #log(lba: number): void {
    const { port, state } = this;
    const now = port.clock.now();
    logError(state.smart, {
      command: port.command,
      features: port.register(AtaRegister.Features),
      count: port.count(true),
      lba,
      device: port.register(AtaRegister.Device) & (AtaDevice.Lba | AtaDevice.Second | AtaDevice.Head),
      error: port.get(DriveField.Error),
      status: port.get(DriveField.Status) & ~AtaStatus.Busy,
      time: Math.floor(now - state.smart.poweredOn),
      hours: lifeHours(state.smart, now),
    });
  }

  /** The data of a command of the disk's own, between the PRD table's memory and here. */
  #ownDma(op: IdeOp): void {
    const { port, state } = this;
    const request = this.#request;
    const bytes = op === IdeOp.DataSetManagement ? new Uint8Array(port.channelField(IdeField.Moving)) : null;
    if (!port.takeDma(request)) return;
    if (bytes) {
      gather(request, bytes);
      trim(this, bytes);
      return;
    }
    const own = op === IdeOp.ReadLog || op === IdeOp.WriteLog ? logByDma(this) : state.buffer;
    if (op === IdeOp.ReadBuffer || op === IdeOp.ReadLog) {
      port.touch(request);
      scatter(request, own);
    } else gather(request, own);
    port.finish(Status.Ok);
  }

  /** PIO data stand in the channel's buffer; what a verify reads goes there to be forgotten. */
  #throughBuffer(op: IdeOp): void {
    const { port } = this;
    const request = this.#request;
    const unit = port.channelField(IdeField.Unit);
    const lba = wide(port, IdeField.Lba);
    request.op = op === IdeOp.Write ? Op.Write : Op.Read;
    request.offset = lba * unit;
    request.length = port.channelField(IdeField.Moving) * unit;
    request.memory = port.memory;
    request.segments.clear();
    for (let left = request.length; left > 0; left -= IdeLimit.BlockBytes)
      request.segments.push(port.bufferAt, Math.min(left, IdeLimit.BlockBytes));
  }

  submit(batch: readonly BlockRequest[], done: (status: Status, lba: number) => void): void {
    this.#media.submit(batch, done);
  }
}

/** A u64 field of the channel. */
function wide(port: DevicePort, field: IdeField): number {
  return port.channelField(field) + port.channelField(field + 4) * 2 ** 32;
}

function gather({ memory, segments }: BlockRequest, into: Uint8Array): void {
  let at = 0;
  for (let i = 0; i < segments.count; at += segments.length(i++)) {
    const run = memory.subarray(segments.start(i), segments.start(i) + segments.length(i));
    into.set(run.subarray(0, into.length - at), at);
  }
}

function scatter({ memory, segments }: BlockRequest, from: Uint8Array): void {
  let at = 0;
  for (let i = 0; i < segments.count; at += segments.length(i++))
    memory.set(from.subarray(at, at + segments.length(i)), segments.start(i));
}
