import {
  AtaControl,
  AtaDevice,
  AtaError,
  AtaRegister,
  AtaStatus,
  BmCommand,
  BmStatus,
  Prd,
} from "../../assembly/spec/ata.ts";
import {
  CommandBits,
  DriveField,
  DriveKind,
  IdeEvent,
  IdeField,
  IdeOp,
  IdePhase,
  IdeProtocol,
  PrdOutcome,
} from "../../assembly/spec/ide.ts";
import { BlockOp, BlockStatus, RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";

const DRIVE = DriveField.Size / 4;
const READY = AtaStatus.Ready | AtaStatus.SeekComplete;
const NOWHERE = -1;

/**
 * What assembly/ide does with a DMA command in TypeScript as we would write it without WebAssembly: over a
 * memory of the same layout, indices of words, 48-bit sector numbers as doubles. It throws at what is not its part: other
 * commands, software reset, wide accesses but to the PRD table's address.
 */
export class IdeTwin {
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  readonly f64: Float64Array;
  private readonly c: number;

  constructor(memory: Uint8Array, context: number) {
    this.u8 = memory.slice();
    this.i32 = new Int32Array(this.u8.buffer);
    this.f64 = new Float64Array(this.u8.buffer);
    this.c = context >>> 2;
  }

  private get(field: number): number {
    return this.i32[this.c + field / 4];
  }
  private put(field: number, value: number): void {
    this.i32[this.c + field / 4] = value;
  }
  private driveAt(index: number): number {
    return this.c + IdeField.Drives / 4 + index * DRIVE;
  }
  private selected(): number {
    return this.driveAt(this.get(IdeField.Selected));
  }

  read(register: number): number {
    this.put(IdeField.Event, 0);
    const value = this.readRegister(register);
    return value + this.get(IdeField.Event) * 4294967296;
  }

  private readRegister(register: number): number {
    const { i32 } = this;
    if (register === AtaRegister.BmCommand) return this.get(IdeField.BmCommand);
    if (register === AtaRegister.BmStatus) return this.get(IdeField.BmStatus);
    if (register > AtaRegister.AltStatus) throw new Error("not in the twin");
    let drive = this.selected();
    if (i32[drive + DriveField.Kind / 4] === DriveKind.Absent) {
      // A disk that is alone as device 0 answers for device 1, but for its status.
      const first = this.driveAt(0);
      if (drive === first || i32[first + DriveField.Kind / 4] === DriveKind.Absent) return 0;
      if (register === AtaRegister.Status || register === AtaRegister.AltStatus) return 0;
      if (register === AtaRegister.Device) return i32[drive + DriveField.Registers / 4 + register];
      drive = first;
    }
    if (register === AtaRegister.Status) {
      const status = i32[drive + DriveField.Status / 4];
      this.setInterrupt(drive, 0);
      return status;
    }
    if (register === AtaRegister.AltStatus) return i32[drive + DriveField.Status / 4];
    if (register === AtaRegister.Device) return i32[drive + DriveField.Registers / 4 + register];
    if (this.get(IdeField.Control) & AtaControl.HighOrder) return i32[drive + DriveField.Previous / 4 + register];
    if (register === AtaRegister.Error) return i32[drive + DriveField.Error / 4];
    return i32[drive + DriveField.Registers / 4 + register];
  }

  /** Answers IdeEvent bits. The PRD table's address is written at its full width, the rest as bytes. */
  write(register: number, value: number): number {
    this.put(IdeField.Event, 0);
    if (register >= AtaRegister.BmCommand) this.writeBusMaster(register, value);
    else if (register === AtaRegister.Control) this.writeControl(value & 0xff);
    else this.writeTaskFile(register, value & 0xff);
    return this.get(IdeField.Event);
  }

  private writeTaskFile(register: number, value: number): void {
    const { i32 } = this;
    const drive = this.selected();
    if (register === AtaRegister.Command) {
      this.put(IdeField.Control, this.get(IdeField.Control) & ~AtaControl.HighOrder);
      this.setInterrupt(drive, 0);
    }
    if (i32[drive + DriveField.Status / 4] & (AtaStatus.Busy | AtaStatus.DataRequest)) return;
    if (this.get(IdeField.Phase) !== IdePhase.Idle) return;
    this.put(IdeField.Control, this.get(IdeField.Control) & ~AtaControl.HighOrder);
    if (register === AtaRegister.Command) {
      if (i32[drive + DriveField.Kind / 4] === DriveKind.Absent) return;
      this.setInterrupt(drive, 0);
      this.decode(drive, value);
      this.begin(drive);
      return;
    }
    const first = this.driveAt(0) + DriveField.Registers / 4 + register;
    const second = first + DRIVE;
    const previous = (DriveField.Previous - DriveField.Registers) / 4;
    if (register === AtaRegister.Device) {
      i32[first] = i32[second] = value | AtaDevice.Obsolete;
      this.put(IdeField.Selected, value & AtaDevice.Second ? 1 : 0);
      this.updateLine();
      return;
    }
    i32[first + previous] = i32[first];
    i32[first] = value;
    i32[second + previous] = i32[second];
    i32[second] = value;
  }

  private writeControl(value: number): void {
    if (value & AtaControl.SoftwareReset) throw new Error("not in the twin");
    this.put(IdeField.Control, value);
    this.updateLine();
  }

  private writeBusMaster(register: number, value: number): void {
    if (register === AtaRegister.BmTable) {
      this.put(IdeField.BmTable, value & ~3);
      return;
    }
    const status = this.get(IdeField.BmStatus);
    if (register === AtaRegister.BmStatus) {
      const cleared = value & (BmStatus.Error | BmStatus.Interrupt);
      this.put(IdeField.BmStatus, (status & ~BmStatus.Capable & ~cleared) | (value & BmStatus.Capable));
      return;
    }
    const was = this.get(IdeField.BmCommand);
    this.put(IdeField.BmCommand, value & BmCommand.Writable);
    if (((was ^ value) & BmCommand.Start) === 0) return;
    if (value & BmCommand.Start) {
      this.put(IdeField.BmStatus, status | BmStatus.Active);
      this.startDma();
    } else this.clearActive();
  }

  private decode(drive: number, code: number): void {
    const { i32 } = this;
    const entry = i32[this.c + IdeField.Commands / 4 + code];
    let refused = (entry & (i32[drive + DriveField.Kind / 4] << CommandBits.KindShift)) === 0;
    if (entry & i32[drive + DriveField.Refused / 4]) refused = true;
    let remaining = 1;
    let block = 1;
    let lba = 0;
    let fault = 0;
    if (entry & CommandBits.Addressed) {
      remaining = i32[drive + DriveField.Registers / 4 + AtaRegister.Count];
      if (entry & CommandBits.Ext) {
        if (!this.usesLba(drive)) refused = true;
        remaining |= i32[drive + DriveField.Previous / 4 + AtaRegister.Count] << 8;
        if (remaining === 0) remaining = 65536;
      } else if (remaining === 0) remaining = 256;
      lba = this.readAddress(drive, entry);
      if (lba === NOWHERE) {
        lba = 0;
        fault = AtaError.IdNotFound;
      }
    }
    if (entry & CommandBits.Multiple) {
      block = i32[drive + DriveField.Multiple / 4];
      if (block === 0) refused = true;
    }
    this.put(IdeField.Op, refused ? IdeOp.Abort : entry & CommandBits.Op);
    this.put(
      IdeField.Protocol,
      refused ? IdeProtocol.None : (entry & CommandBits.Protocol) >>> CommandBits.ProtocolShift,
    );
    this.put(IdeField.Traits, entry);
    this.put(IdeField.Fault, refused ? AtaError.Abort : fault);
    this.setLba(lba);
    this.put(IdeField.Remaining, remaining);
    this.put(IdeField.Block, block);
    this.put(IdeField.Unit, i32[drive + DriveField.SectorBytes / 4]);
    this.put(IdeField.Command, code);
    this.put(IdeField.Step, 0);
  }

  private usesLba(drive: number): boolean {
    return (this.i32[drive + DriveField.Registers / 4 + AtaRegister.Device] & AtaDevice.Lba) !== 0;
  }

  private readAddress(drive: number, traits: number): number {
    const { i32 } = this;
    const now = drive + DriveField.Registers / 4;
    const before = drive + DriveField.Previous / 4;
    const low = i32[now + AtaRegister.LbaLow];
    const mid = i32[now + AtaRegister.LbaMid];
    const high = i32[now + AtaRegister.LbaHigh];
    const device = i32[now + AtaRegister.Device];
    const head = device & AtaDevice.Head;
    if (device & AtaDevice.Lba) {
      const below = low | (mid << 8) | (high << 16);
      if ((traits & CommandBits.Ext) === 0) return below | (head << 24);
      const above = i32[before + AtaRegister.LbaMid] | (i32[before + AtaRegister.LbaHigh] << 8);
      return above * 4294967296 + ((below | (i32[before + AtaRegister.LbaLow] << 24)) >>> 0);
    }
    const heads = i32[drive + DriveField.CurrentHeads / 4];
    const track = i32[drive + DriveField.CurrentSectorsPerTrack / 4];
    if (low === 0 || low > track || head >= heads) return NOWHERE;
    return ((mid | (high << 8)) * heads + head) * track + low - 1;
  }

  private writeAddress(drive: number, traits: number, lba: number): void {
    const { i32 } = this;
    const now = drive + DriveField.Registers / 4;
    const before = drive + DriveField.Previous / 4;
    const device = i32[now + AtaRegister.Device];
    if (device & AtaDevice.Lba) {
      const low = lba >>> 0;
      i32[now + AtaRegister.LbaLow] = low & 0xff;
      i32[now + AtaRegister.LbaMid] = (low >>> 8) & 0xff;
      i32[now + AtaRegister.LbaHigh] = (low >>> 16) & 0xff;
      if (traits & CommandBits.Ext) {
        const above = (lba / 4294967296) >>> 0;
        i32[before + AtaRegister.LbaLow] = low >>> 24;
        i32[before + AtaRegister.LbaMid] = above & 0xff;
        i32[before + AtaRegister.LbaHigh] = (above >>> 8) & 0xff;
      } else i32[now + AtaRegister.Device] = (device & ~AtaDevice.Head) | ((low >>> 24) & AtaDevice.Head);
      return;
    }
    const heads = i32[drive + DriveField.CurrentHeads / 4];
    const track = i32[drive + DriveField.CurrentSectorsPerTrack / 4];
    if (heads === 0 || track === 0) return;
    const cylinder = Math.floor(lba / (heads * track)) >>> 0;
    const within = lba - cylinder * heads * track;
    const head = (within / track) | 0;
    i32[now + AtaRegister.LbaMid] = cylinder & 0xff;
    i32[now + AtaRegister.LbaHigh] = (cylinder >>> 8) & 0xff;
    i32[now + AtaRegister.Device] = (device & ~AtaDevice.Head) | (head & AtaDevice.Head);
    i32[now + AtaRegister.LbaLow] = (within % track) + 1;
  }

  private writeCount(drive: number, traits: number, count: number): void {
    this.i32[drive + DriveField.Registers / 4 + AtaRegister.Count] = count & 0xff;
    if (traits & CommandBits.Ext) {
      this.i32[drive + DriveField.Previous / 4 + AtaRegister.Count] = (count >>> 8) & 0xff;
    }
  }

  private lba(): number {
    return (this.get(IdeField.Lba + 4) >>> 0) * 4294967296 + (this.get(IdeField.Lba) >>> 0);
  }
  private setLba(lba: number): void {
    this.put(IdeField.Lba, lba >>> 0);
    this.put(IdeField.Lba + 4, (lba / 4294967296) >>> 0);
  }

  private begin(drive: number): void {
    const protocol = this.get(IdeField.Protocol);
    this.i32[drive + DriveField.Error / 4] = 0;
    if (protocol === IdeProtocol.None) this.fail(drive, this.get(IdeField.Fault), 0);
    else if (protocol === IdeProtocol.Dma) {
      this.put(IdeField.Phase, IdePhase.Dma);
      this.i32[drive + DriveField.Status / 4] = READY | AtaStatus.DataRequest;
      this.startDma();
    } else throw new Error("not in the twin");
  }

  private startDma(): void {
    if ((this.get(IdeField.BmStatus) & BmStatus.Active) === 0) return;
    if (this.get(IdeField.Phase) !== IdePhase.Dma || this.get(IdeField.InFlight) !== 0) return;
    this.put(IdeField.Moving, this.get(IdeField.Remaining));
    this.put(IdeField.InFlight, 1);
    this.put(IdeField.Event, this.get(IdeField.Event) | IdeEvent.Io);
  }

  /** Answers 1 with the request in the table, 0 when the command has ended. */
  prd(): number {
    const { i32 } = this;
    const drive = this.selected();
    const table = this.get(IdeField.Table) >>> 2;
    const need = this.get(IdeField.Moving) * this.get(IdeField.Unit);
    const write = this.get(IdeField.Op) === IdeOp.Write;
    this.put(IdeField.Event, 0);
    i32[table + TableField.RequestCount / 4] = 0;
    i32[table + TableField.SegmentCount / 4] = 0;
    const outcome = this.walk(table, need);
    this.put(IdeField.Outcome, outcome);
    if (outcome === PrdOutcome.Short) {
      this.endDma(drive);
      return 0;
    }
    if (!this.inRange(drive)) return 0;
    if (outcome === PrdOutcome.BadAddress) {
      this.put(IdeField.BmStatus, this.get(IdeField.BmStatus) | BmStatus.Error);
      this.fail(drive, AtaError.Abort, 0);
      return 0;
    }
    const at = table + TableField.Records / 4;
    i32[at + RequestField.Op / 4] = write ? BlockOp.Write : BlockOp.Read;
    i32[at + RequestField.Status / 4] = BlockStatus.Pending;
    this.f64[(at + RequestField.Offset / 4) >>> 1] = this.lba() * this.get(IdeField.Unit);
    this.f64[(at + RequestField.Length / 4) >>> 1] = need;
    i32[at + RequestField.FirstSegment / 4] = 0;
    i32[at + RequestField.Segments / 4] = i32[table + TableField.SegmentCount / 4];
    i32[at + RequestField.Tag / 4] = 0;
    i32[at + RequestField.Private0 / 4] = 0;
    i32[at + RequestField.Private1 / 4] = 0;
    i32[at + RequestField.Private2 / 4] = 0;
    i32[at + RequestField.Private3 / 4] = 0;
    i32[table + TableField.RequestCount / 4] = 1;
    return 1;
  }

  private walk(table: number, need: number): number {
    const { i32 } = this;
    const base = this.get(IdeField.RamBase);
    const size = this.get(IdeField.RamSize) >>> 0;
    const capacity = i32[table + TableField.RequestCapacity / 4];
    const segments = table + TableField.Records / 4 + (capacity * RequestField.Size) / 4;
    let to = segments;
    let at = this.get(IdeField.BmTable) >>> 0;
    let left = need | 0;
    let outcome = -1;
    for (let i = 0; outcome < 0 && i < Prd.Entries; i++, at = (at + Prd.Size) >>> 0) {
      if (at > size || Prd.Size > (size - at) >>> 0) {
        outcome = left === 0 ? PrdOutcome.Exact : PrdOutcome.BadAddress;
        break;
      }
      const entry = (base + at) >>> 2;
      const address = i32[entry] >>> 0;
      const count = i32[entry + 1];
      const length = count & Prd.Count || 65536;
      const take = Math.min(length, left);
      if (take !== 0) {
        if (address > size || take > (size - address) >>> 0) {
          outcome = PrdOutcome.BadAddress;
          break;
        }
        i32[to] = base + address;
        i32[to + 1] = take;
        to += SegmentField.Size / 4;
        left -= take;
      }
      if (length > take) outcome = PrdOutcome.Long;
      else if (count < 0) outcome = left === 0 ? PrdOutcome.Exact : PrdOutcome.Short;
    }
    i32[table + TableField.SegmentCount / 4] = (to - segments) >>> 1;
    if (outcome >= 0) return outcome;
    return left === 0 ? PrdOutcome.Exact : PrdOutcome.Short;
  }

  private inRange(drive: number): boolean {
    const lba = this.lba();
    const sectors =
      (this.i32[drive + DriveField.Sectors / 4 + 1] >>> 0) * 4294967296 +
      (this.i32[drive + DriveField.Sectors / 4] >>> 0);
    const fault = this.get(IdeField.Fault);
    if (fault !== 0) {
      this.fail(drive, fault, 0);
      return false;
    }
    if (lba <= sectors && this.get(IdeField.Moving) <= sectors - lba) return true;
    this.setLba(Math.max(lba, sectors));
    this.failAt(drive, AtaError.IdNotFound, 0);
    return false;
  }

  finish(status: number, failing: number): number {
    this.put(IdeField.Event, 0);
    const drive = this.selected();
    this.put(IdeField.InFlight, 0);
    if (status !== BlockStatus.Ok) {
      const error = errorOf(status, this.get(IdeField.Op));
      if (failing >= 0 && failing < 281474976710656) this.setLba(failing);
      this.failAt(drive, error & 0xff, error >>> 8);
    } else {
      const moved = this.get(IdeField.Moving);
      const lba = this.lba() + moved;
      const remaining = this.get(IdeField.Remaining) - moved;
      const traits = this.get(IdeField.Traits);
      this.setLba(lba);
      this.put(IdeField.Remaining, remaining);
      this.writeAddress(drive, traits, lba);
      this.writeCount(drive, traits, remaining);
      this.endDma(drive);
    }
    return this.get(IdeField.Event);
  }

  private endDma(drive: number): void {
    const outcome = this.get(IdeField.Outcome);
    this.put(IdeField.InFlight, 0);
    this.put(IdeField.Phase, IdePhase.Idle);
    this.i32[drive + DriveField.Status / 4] = READY;
    if (outcome !== PrdOutcome.Long) this.clearActive();
    if (outcome !== PrdOutcome.Short) this.setInterrupt(drive, 1);
  }

  private fail(drive: number, error: number, extra: number): void {
    if (this.get(IdeField.Protocol) === IdeProtocol.Dma) this.clearActive();
    this.put(IdeField.InFlight, 0);
    this.i32[drive + DriveField.Error / 4] = error;
    this.put(IdeField.Phase, IdePhase.Idle);
    this.i32[drive + DriveField.Status / 4] = AtaStatus.Ready | AtaStatus.Error | extra;
    this.setInterrupt(drive, 1);
  }

  private failAt(drive: number, error: number, extra: number): void {
    const traits = this.get(IdeField.Traits);
    this.writeAddress(drive, traits, this.lba());
    this.writeCount(drive, traits, this.get(IdeField.Remaining));
    this.fail(drive, error, extra);
  }

  private clearActive(): void {
    this.put(IdeField.BmStatus, this.get(IdeField.BmStatus) & ~BmStatus.Active);
  }

  private setInterrupt(drive: number, wanted: number): void {
    this.i32[drive + DriveField.Interrupt / 4] = wanted;
    this.updateLine();
  }

  private updateLine(): void {
    const wanted = this.i32[this.selected() + DriveField.Interrupt / 4];
    const level = this.get(IdeField.Control) & AtaControl.InterruptDisable ? 0 : wanted;
    if (level === this.get(IdeField.Line)) return;
    this.put(IdeField.Line, level);
    if (level !== 0) this.put(IdeField.BmStatus, this.get(IdeField.BmStatus) | BmStatus.Interrupt);
    this.put(IdeField.Event, this.get(IdeField.Event) | IdeEvent.Line);
  }
}

function errorOf(status: number, op: number): number {
  if (status === BlockStatus.OutOfRange) return AtaError.IdNotFound;
  if (status === BlockStatus.ReadOnly || status === BlockStatus.Unsupported) return AtaError.Abort;
  if (status === BlockStatus.Media && op === IdeOp.Read) return AtaError.Uncorrectable;
  return AtaError.Abort | (AtaStatus.DeviceFault << 8);
}
