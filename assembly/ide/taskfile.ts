// The registers of one channel as the guest sees them: task file, device control, data port, bus master. One call per
// port access; what it leaves to do is in IdeField.Event.
import { AtaCommand, AtaControl, AtaDevice, AtaRegister, AtaStatus, BmCommand, BmStatus } from "../spec/ata";
import { DriveField, DriveKind, IdeAbort, IdeField, IdeOp, IdePhase, PrdOutcome } from "../spec/ide";
import { decode, fillCommands } from "./command";
import {
  clearActive,
  driveAt,
  get,
  isPresent,
  previous,
  put,
  register,
  selected,
  setInterrupt,
  setPrevious,
  setRegister,
  updateLine,
} from "./context";
import { beginAbort, beginReset, endReset } from "./reset";
import { begin, blockTaken, finish, startDma } from "./transfer";

/** Power-on, and the reset wire: everything but what the host has configured. I/O in flight is waited for, BSY set. */
export function ideReset(ctx: usize): void {
  put(ctx + IdeField.Event, 0);
  fillCommands(ctx + IdeField.Commands);
  put(ctx + IdeField.Control, 0);
  put(ctx + IdeField.BmCommand, 0);
  put(ctx + IdeField.BmTable, 0);
  for (let i: u32 = 0; i < 2; i++) {
    const drive = driveAt(ctx, i);
    put(drive + DriveField.CurrentCylinders, get(drive + DriveField.Cylinders));
    put(drive + DriveField.CurrentHeads, get(drive + DriveField.Heads));
    put(drive + DriveField.CurrentSectorsPerTrack, get(drive + DriveField.SectorsPerTrack));
  }
  beginReset(ctx);
  put(ctx + IdeField.Outcome, PrdOutcome.None);
  put(ctx + IdeField.BmStatus, 0);
  endReset(ctx);
}

/**
 * The guest reads `width` bytes at `reg` (AtaRegister). Returns the value, and IdeField.Event above its 32 bits: one
 * number, for a data port is read two thousand times for 4 KiB.
 */
export function ideRead(ctx: usize, reg: u32, width: u32): f64 {
  put(ctx + IdeField.Event, 0);
  const value = readPort(ctx, reg, width);
  return (value as f64) + (get(ctx + IdeField.Event) as f64) * 4294967296.0;
}

function readPort(ctx: usize, reg: u32, width: u32): u32 {
  if (reg === AtaRegister.Data) return readData(ctx, width);
  if (reg >= (AtaRegister.BmCommand as u32)) return readBusMaster(ctx, reg, width);
  let value: u32 = 0;
  for (let i: u32 = 0; i < width; i++) {
    value |= (within(reg, i) ? readRegister(ctx, reg + i) : 0xff) << (8 * i);
  }
  return value;
}

/** The guest writes. Returns IdeField.Event. */
export function ideWrite(ctx: usize, reg: u32, width: u32, value: u32): u32 {
  put(ctx + IdeField.Event, 0);
  if (reg === AtaRegister.Data) writeData(ctx, width, value);
  else if (reg >= (AtaRegister.BmCommand as u32)) writeBusMaster(ctx, reg, width, value);
  else {
    for (let i: u32 = 0; i < width; i++) if (within(reg, i)) writeRegister(ctx, reg + i, (value >> (8 * i)) & 0xff);
  }
  return get(ctx + IdeField.Event);
}

/**
 * The host has carried out what Event asked for. `status` is a BlockStatus, `lba` the failing sector or below zero.
 * Returns IdeField.Event.
 */
export function ideFinish(ctx: usize, status: u32, lba: f64): u32 {
  put(ctx + IdeField.Event, 0);
  finish(ctx, status, lba);
  return get(ctx + IdeField.Event);
}

/** A wide access is a row of byte accesses; the command block ends at Command, and Control stands alone. */
function within(reg: u32, offset: u32): bool {
  return offset === 0 || reg + offset <= (AtaRegister.Command as u32);
}

/**
 * The drive whose register is read, or 0. §9.16.1: a disk that is alone as device 0 answers for device 1, but for its
 * status; nobody else drives the bus for a drive that is not there, and pulled down it reads 0.
 */
function answering(ctx: usize, reg: u32): usize {
  const drive = selected(ctx);
  if (isPresent(drive)) return drive;
  const first = driveAt(ctx, 0);
  const kind = get(first + DriveField.Kind);
  if (drive === first || kind === DriveKind.Absent || kind === DriveKind.Packet) return 0;
  return reg === AtaRegister.Status || reg === AtaRegister.AltStatus ? 0 : first;
}

/** A bus with no drive at all, which nobody pulls anywhere but the host adapter. */
function isEmpty(ctx: usize): bool {
  return !isPresent(driveAt(ctx, 0)) && !isPresent(driveAt(ctx, 1));
}

function readRegister(ctx: usize, reg: u32): u32 {
  const drive = answering(ctx, reg);
  if (drive === 0 && isEmpty(ctx)) return get(ctx + IdeField.Floating);
  if (drive === 0 || reg > (AtaRegister.AltStatus as u32)) return 0;
  if (reg === AtaRegister.Status) {
    const status = get(drive + DriveField.Status);
    setInterrupt(ctx, drive, 0);
    return status;
  }
  if (reg === AtaRegister.AltStatus) return get(drive + DriveField.Status);
  // Both drives latch the Device register; what is selected shows in it whoever answers.
  if (reg === AtaRegister.Device) return register(selected(ctx), reg);
  if ((get(ctx + IdeField.Control) & AtaControl.HighOrder) !== 0) return previous(drive, reg);
  return reg === AtaRegister.Error ? get(drive + DriveField.Error) : register(drive, reg);
}

function writeRegister(ctx: usize, reg: u32, value: u32): void {
  if (reg === AtaRegister.Control) {
    writeControl(ctx, value);
    return;
  }
  if (reg === AtaRegister.Data || reg > (AtaRegister.Command as u32)) return;
  const drive = selected(ctx);
  const control = get(ctx + IdeField.Control) & ~AtaControl.HighOrder;
  if (reg === AtaRegister.Command) {
    // §5.2.9: writing Command withdraws an interrupt, whatever becomes of the command.
    put(ctx + IdeField.Control, control);
    setInterrupt(ctx, drive, 0);
  }
  // §7: while BSY or DRQ is set nothing but Device Control and two commands is looked at.
  const busy = (get(drive + DriveField.Status) & (AtaStatus.Busy | AtaStatus.DataRequest)) !== 0;
  if (busy || get(ctx + IdeField.Phase) !== IdePhase.Idle) {
    if (reg === AtaRegister.Command) interrupted(ctx, drive, value);
    return;
  }
  put(ctx + IdeField.Control, control);
  if (reg === AtaRegister.Command) {
    command(ctx, drive, value);
    return;
  }
  for (let i: u32 = 0; i < 2; i++) {
    const each = driveAt(ctx, i);
    if (reg === AtaRegister.Device) setRegister(each, reg, value | AtaDevice.Obsolete);
    else {
      setPrevious(each, reg, register(each, reg));
      setRegister(each, reg, value);
    }
  }
  if (reg === AtaRegister.Device) {
    put(ctx + IdeField.Selected, (value & AtaDevice.Second) !== 0 ? 1 : 0);
    updateLine(ctx);
  }
}

/**
 * A command while the drive is busy: a packet device hears DEVICE RESET (§8.9), a disk IDLE IMMEDIATE, which Linux and
 * others send to a drive that they have lost patience with.
 */
function interrupted(ctx: usize, drive: usize, code: u32): void {
  const kind = get(drive + DriveField.Kind);
  if (get(ctx + IdeField.Phase) === IdePhase.Reset || kind === DriveKind.Absent) return;
  if (get(ctx + IdeField.Abort) !== IdeAbort.None) return;
  if (kind === DriveKind.Packet) {
    if (code === AtaCommand.DeviceReset) beginAbort(ctx, IdeAbort.DeviceReset);
  } else if (code === AtaCommand.IdleImmediate) beginAbort(ctx, IdeAbort.IdleImmediate);
}

function command(ctx: usize, drive: usize, code: u32): void {
  let target = drive;
  if (!isPresent(drive)) {
    // EXECUTE DIAGNOSTIC is for both drives whichever is selected (§8.11); nobody hears anything else.
    const other = driveAt(ctx, 1 - get(ctx + IdeField.Selected));
    const entry = get(ctx + IdeField.Commands + code * 4);
    if ((entry & 0xff) !== IdeOp.Diagnostic || !isPresent(other)) return;
    target = other;
  }
  setInterrupt(ctx, target, 0);
  decode(ctx, target, code);
  if (get(ctx + IdeField.Op) === IdeOp.DeviceReset) beginAbort(ctx, IdeAbort.DeviceReset);
  else begin(ctx, target);
}

function writeControl(ctx: usize, value: u32): void {
  const was = get(ctx + IdeField.Control);
  put(ctx + IdeField.Control, value);
  if (((was ^ value) & AtaControl.SoftwareReset) !== 0) {
    if ((value & AtaControl.SoftwareReset) !== 0) beginReset(ctx);
    else endReset(ctx);
  }
  updateLine(ctx);
}

/** Bytes that one access to the data port moves: a byte uses up a word, as boot loaders expect of QEMU. */
function stepOf(ctx: usize, width: u32, left: u32): u32 {
  if (left < 2) return 1;
  if (width === 4 && left >= 4) return 4;
  return width === 1 && get(selected(ctx) + DriveField.BytePort) !== 0 ? 1 : 2;
}

function readData(ctx: usize, width: u32): u32 {
  if (get(ctx + IdeField.Phase) !== IdePhase.PioIn) {
    return isEmpty(ctx) ? (get(ctx + IdeField.Floating) * 0x01010101) & ones(width) : 0;
  }
  const at = get(ctx + IdeField.BufferAt);
  const end = get(ctx + IdeField.BufferEnd);
  const source = ctx + IdeField.Buffer + at;
  const step = stepOf(ctx, width, end - at);
  const value: u32 =
    step === 4 ? load<u32>(source) : step === 2 ? (load<u16>(source) as u32) : (load<u8>(source) as u32);
  put(ctx + IdeField.BufferAt, at + step);
  if (at + step >= end) blockTaken(ctx, selected(ctx));
  return width === 1 ? value & 0xff : value;
}

function writeData(ctx: usize, width: u32, value: u32): void {
  if (get(ctx + IdeField.Phase) !== IdePhase.PioOut) return;
  const at = get(ctx + IdeField.BufferAt);
  const end = get(ctx + IdeField.BufferEnd);
  const target = ctx + IdeField.Buffer + at;
  const step = stepOf(ctx, width, end - at);
  // Half a word is nothing that a disk could take.
  if (width === 1 && step !== 1) return;
  if (step === 4) store<u32>(target, value);
  else if (step === 2) store<u16>(target, value as u16);
  else store<u8>(target, value as u8);
  put(ctx + IdeField.BufferAt, at + step);
  if (at + step >= end) blockTaken(ctx, selected(ctx));
}

function ones(width: u32): u32 {
  return width === 4 ? 0xffffffff : width === 2 ? 0xffff : 0xff;
}

/** Command and Status are byte registers; the table address takes any width (BMIDE §2). */
function readBusMaster(ctx: usize, reg: u32, width: u32): u32 {
  if (reg >= (AtaRegister.BmTable as u32)) {
    const shift = (reg - AtaRegister.BmTable) * 8;
    return shift > 24 ? ones(width) : (get(ctx + IdeField.BmTable) >> shift) & ones(width);
  }
  if (width !== 1) return ones(width);
  if (reg === AtaRegister.BmCommand) return get(ctx + IdeField.BmCommand);
  if (reg === AtaRegister.BmStatus) return get(ctx + IdeField.BmStatus);
  return 0xff;
}

function writeBusMaster(ctx: usize, reg: u32, width: u32, value: u32): void {
  if (reg >= (AtaRegister.BmTable as u32)) {
    const shift = (reg - AtaRegister.BmTable) * 8;
    if (shift > 24) return;
    const mask = ones(width) << shift;
    put(ctx + IdeField.BmTable, ((get(ctx + IdeField.BmTable) & ~mask) | ((value << shift) & mask)) & ~3);
    return;
  }
  if (width !== 1) return;
  const status = get(ctx + IdeField.BmStatus);
  if (reg === AtaRegister.BmStatus) {
    const cleared = value & (BmStatus.Error | BmStatus.Interrupt);
    put(ctx + IdeField.BmStatus, (status & ~BmStatus.Capable & ~cleared) | (value & BmStatus.Capable));
    return;
  }
  if (reg !== AtaRegister.BmCommand) return;
  const was = get(ctx + IdeField.BmCommand);
  put(ctx + IdeField.BmCommand, value & BmCommand.Writable);
  if (((was ^ value) & BmCommand.Start) === 0) return;
  if ((value & BmCommand.Start) === 0) {
    // Data already on its way is let through, so that no half of a sector reaches the disk.
    clearActive(ctx);
    return;
  }
  put(ctx + IdeField.BmStatus, status | BmStatus.Active);
  startDma(ctx);
}
