import { AtaError, AtaTransfer } from "../../../../assembly/spec/ata.ts";
import { DriveField, DriveKind, IdeField, IdeLimit, IdeOp, IdeProtocol } from "../../../../assembly/spec/ide.ts";
import { type Block, BlockRequest, Op, Status } from "../../../core/block.ts";
import type { Later } from "../../../core/flow.ts";
import { checkPower, initializeParameters, readNativeMax, setFeatures, setMultiple, type Verdict } from "./commands.ts";
import type { IdeDevice, Plain, ResetKind } from "./device.ts";
import { type IdeDriveOptions, type Shape, shapeOf } from "./drive.ts";
import { type Identity, identifyDisk } from "./identify.ts";
import type { DevicePort } from "./port.ts";

const succeed = (): Verdict => true;

/** What each command without data does, by IdeOp. */
const COMMANDS: Partial<Record<IdeOp, (port: DevicePort) => Verdict>> = {
  [IdeOp.SetFeatures]: setFeatures,
  [IdeOp.SetMultiple]: setMultiple,
  [IdeOp.InitializeParameters]: initializeParameters,
  [IdeOp.ReadNativeMax]: readNativeMax,
  // The core writes both drives' signatures when it ends the command.
  [IdeOp.Diagnostic]: succeed,
  [IdeOp.Power]: succeed,
  [IdeOp.Nothing]: succeed,
};

/** A disk: its media is a block, its settings stand in the channel's context. */
export class IdeDisk implements IdeDevice {
  readonly kind = DriveKind.Disk;
  readonly #block: Block;
  readonly #shape: Shape;
  readonly #identity: Identity;
  readonly #request = new BlockRequest();
  readonly #flush = new BlockRequest();
  #port!: DevicePort;

  /** @throws ParavaneError INVALID, UNSUPPORTED */
  constructor(options: IdeDriveOptions, index: number) {
    const { shape, identity } = shapeOf(options, index);
    this.#block = options.block;
    this.#shape = shape;
    this.#identity = identity;
    this.#flush.op = Op.Flush;
  }

  plug(port: DevicePort): void {
    this.#port = port;
    const { sectors, sectorBytes, cylinders, heads, sectorsPerTrack } = this.#shape;
    port.setWide(DriveField.Sectors, sectors);
    port.set(DriveField.SectorBytes, sectorBytes);
    port.set(DriveField.Cylinders, cylinders);
    port.set(DriveField.Heads, heads);
    port.set(DriveField.SectorsPerTrack, sectorsPerTrack);
    this.reset("power");
  }

  execute(op: IdeOp): void {
    const port = this.#port;
    if (op === IdeOp.Identify) {
      port.buffer.set(new Uint8Array(identifyDisk(port, this.#identity).buffer));
      port.dataInLast(512);
      return;
    }
    if (op === IdeOp.CheckPower) checkPower(port);
    const verdict = op === IdeOp.CheckPower || (COMMANDS[op]?.(port) ?? false);
    if (verdict === "flush") this.#submit([this.#flush]);
    else if (verdict) port.done();
    else port.fail(AtaError.Abort);
  }

  transfer(): void {
    const port = this.#port;
    const op = port.op;
    if (op === IdeOp.Flush) {
      this.#submit([this.#flush]);
      return;
    }
    if (port.channelField(IdeField.Protocol) === IdeProtocol.Dma) {
      if (!port.takeDma(this.#request)) return;
      if (op === IdeOp.Read) port.touch(this.#request);
    } else this.#throughBuffer(op);
    const durable = op === IdeOp.Write && port.get(DriveField.WriteCache) === 0;
    this.#submit(durable ? [this.#request, this.#flush] : [this.#request]);
  }

  /** The settings that power-on and hardware reset restore. */
  reset(kind: ResetKind): void {
    if (kind !== "power") return;
    const port = this.#port;
    port.set(DriveField.Multiple, IdeLimit.Multiple);
    port.set(DriveField.TransferMode, AtaTransfer.UltraDma | IdeLimit.UltraDma);
    port.set(DriveField.WriteCache, 1);
    port.set(DriveField.ReadAhead, 1);
  }

  save(): Plain {
    return null;
  }
  restore(): void {}

  /** PIO data stand in the channel's buffer; what a verify reads goes there to be forgotten. */
  #throughBuffer(op: IdeOp): void {
    const port = this.#port;
    const request = this.#request;
    const unit = port.channelField(IdeField.Unit);
    const lba = port.channelField(IdeField.Lba) + port.channelField(IdeField.Lba + 4) * 2 ** 32;
    request.op = op === IdeOp.Write ? Op.Write : Op.Read;
    request.offset = lba * unit;
    request.length = port.channelField(IdeField.Moving) * unit;
    request.memory = port.memory;
    request.segments.clear();
    for (let left = request.length; left > 0; left -= IdeLimit.BlockBytes)
      request.segments.push(port.bufferAt, Math.min(left, IdeLimit.BlockBytes));
  }

  #submit(batch: readonly BlockRequest[]): void {
    for (const request of batch) {
      request.status = Status.Pending;
      request.error = null;
    }
    let later: Later<void>;
    try {
      later = this.#block.submit(batch);
    } catch {
      // The block has been closed under us: its requests stay pending, which counts as lost below.
      later = undefined;
    }
    const ended = () => this.#complete(batch);
    if (later) later.then(ended, ended);
    else ended();
  }

  #complete(batch: readonly BlockRequest[]): void {
    const failed = batch.find((request) => request.status !== Status.Ok);
    if (!failed) this.#port.finish(Status.Ok);
    else {
      // Still pending: the block was closed, or broke its contract.
      const status = failed.status === Status.Pending ? Status.Io : failed.status;
      this.#port.finish(status, failedSector(failed, this.#shape.sectorBytes));
    }
  }
}

/** The sector a failure names, when it names one inside the request; else -1. */
function failedSector({ error, offset, length }: BlockRequest, sectorBytes: number): number {
  const at = error?.context.file === undefined ? error?.context.offset : undefined;
  return at !== undefined && at >= offset && at < offset + length ? Math.floor(at / sectorBytes) : -1;
}
