// What a drive goes through from an accepted command to its end: DRQ blocks, DMA, completion and errors. The host is
// asked for one thing at a time (IdeEvent.Io or Execute) and answers with `finish`.
import { AtaControl, AtaDevice, AtaError, AtaRegister, AtaSignature, AtaStatus, BmStatus } from "../spec/ata";
import {
  CommandBits,
  DriveField,
  IdeEvent,
  IdeField,
  IdeLimit,
  IdeOp,
  IdePhase,
  IdeProtocol,
  PrdOutcome,
} from "../spec/ide";
import { BlockStatus } from "../spec/request";
import { writeAddress, writeCount } from "./address";
import {
  addEvent,
  clearActive,
  driveAt,
  get,
  isPresent,
  put,
  selected,
  setInterrupt,
  setPrevious,
  setRegister,
  setStatus,
} from "./context";

function ask(ctx: usize, event: u32): void {
  put(ctx + IdeField.InFlight, 1);
  addEvent(ctx, event);
}

function setPhase(ctx: usize, phase: u32): void {
  put(ctx + IdeField.Phase, phase);
}

/** The decoded action begins. */
export function begin(ctx: usize, drive: usize): void {
  const protocol = get(ctx + IdeField.Protocol);
  const ready: u32 = AtaStatus.Ready | AtaStatus.SeekComplete;
  put(drive + DriveField.Error, 0);
  if (protocol === IdeProtocol.None) {
    fail(ctx, drive, get(ctx + IdeField.Fault), 0);
  } else if (protocol === IdeProtocol.PioOut) {
    offerBlock(ctx, drive, IdePhase.PioOut);
  } else if (protocol === IdeProtocol.Dma) {
    setPhase(ctx, IdePhase.Dma);
    setStatus(drive, ready | AtaStatus.DataRequest);
    startDma(ctx);
  } else {
    setPhase(ctx, IdePhase.Busy);
    setStatus(drive, AtaStatus.Busy | AtaStatus.Ready);
    const op = get(ctx + IdeField.Op);
    if (op > (IdeOp.Flush as u32)) {
      put(ctx + IdeField.Moving, nextBlock(ctx));
      ask(ctx, IdeEvent.Execute);
    } else moveBlock(ctx, drive);
  }
}

/** Is a DMA command waiting, with the bus master started? Then its data moves. */
export function startDma(ctx: usize): void {
  const started = (get(ctx + IdeField.BmStatus) & BmStatus.Active) !== 0;
  if (!started || get(ctx + IdeField.Phase) !== IdePhase.Dma || get(ctx + IdeField.InFlight) !== 0) return;
  put(ctx + IdeField.Moving, get(ctx + IdeField.Remaining));
  ask(ctx, IdeEvent.Io);
}

/** DRQ: the next block of the buffer is the guest's to read or fill. */
function offerBlock(ctx: usize, drive: usize, phase: u32): void {
  if (phase === IdePhase.PioOut) put(ctx + IdeField.Moving, nextBlock(ctx));
  put(ctx + IdeField.BufferAt, 0);
  put(ctx + IdeField.BufferEnd, get(ctx + IdeField.Moving) * IdeLimit.SectorBytes);
  setPhase(ctx, phase);
  setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete | AtaStatus.DataRequest);
}

function nextBlock(ctx: usize): u32 {
  return min(get(ctx + IdeField.Block), get(ctx + IdeField.Remaining));
}

/** The guest has read, or filled, the whole block. */
export function blockTaken(ctx: usize, drive: usize): void {
  if (get(ctx + IdeField.Phase) === IdePhase.PioIn && get(ctx + IdeField.Remaining) === 0) {
    // §9.5: a PIO data-in command ends with its last word, without an interrupt.
    succeed(ctx, drive);
    return;
  }
  setPhase(ctx, IdePhase.Busy);
  setStatus(drive, AtaStatus.Busy | AtaStatus.Ready);
  moveBlock(ctx, drive);
}

/** Asks the host for the next block, unless the disk ends before it. */
function moveBlock(ctx: usize, drive: usize): void {
  const op = get(ctx + IdeField.Op);
  if (op !== IdeOp.Flush) {
    put(ctx + IdeField.Moving, op === IdeOp.Verify ? get(ctx + IdeField.Remaining) : nextBlock(ctx));
    if (!inRange(ctx, drive)) return;
  }
  ask(ctx, IdeEvent.Io);
}

/** Checks [Lba, Lba + Moving) against the disk; ends the command with IDNF when it does not fit. */
export function inRange(ctx: usize, drive: usize): bool {
  const lba = load<u64>(ctx + IdeField.Lba);
  const sectors = load<u64>(drive + DriveField.Sectors);
  const fault = get(ctx + IdeField.Fault);
  if (fault !== 0) {
    fail(ctx, drive, fault, 0);
    return false;
  }
  if (lba <= sectors && (get(ctx + IdeField.Moving) as u64) <= sectors - lba) return true;
  // The first sector that is not there.
  store<u64>(ctx + IdeField.Lba, max(lba, sectors));
  failAt(ctx, drive, AtaError.IdNotFound, 0);
  return false;
}

/** Accounts for the block that has moved, and shows it in the task file. */
export function advance(ctx: usize, drive: usize): void {
  if ((get(ctx + IdeField.Traits) & CommandBits.Addressed) === 0) {
    put(ctx + IdeField.Remaining, 0);
    return;
  }
  const moved = get(ctx + IdeField.Moving);
  const lba = load<u64>(ctx + IdeField.Lba) + moved;
  const remaining = get(ctx + IdeField.Remaining) - moved;
  const traits = get(ctx + IdeField.Traits);
  store<u64>(ctx + IdeField.Lba, lba);
  put(ctx + IdeField.Remaining, remaining);
  writeAddress(drive, traits, lba);
  writeCount(drive, traits, remaining);
}

function succeed(ctx: usize, drive: usize): void {
  setPhase(ctx, IdePhase.Idle);
  setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete);
}

/** Ends a DMA command as its PRD table has it (BMIDE §3.1). */
export function endDma(ctx: usize, drive: usize): void {
  const outcome = get(ctx + IdeField.Outcome);
  put(ctx + IdeField.InFlight, 0);
  succeed(ctx, drive);
  if (outcome !== PrdOutcome.Long && outcome !== PrdOutcome.NoBusMaster) clearActive(ctx);
  if (outcome !== PrdOutcome.Short) setInterrupt(ctx, drive, 1);
}

/** Ends the command with an error; `extra` is or-ed into Status. */
export function fail(ctx: usize, drive: usize, error: u32, extra: u32): void {
  if (get(ctx + IdeField.Protocol) === IdeProtocol.Dma) clearActive(ctx);
  put(ctx + IdeField.InFlight, 0);
  put(drive + DriveField.Error, error);
  setPhase(ctx, IdePhase.Idle);
  setStatus(drive, AtaStatus.Ready | AtaStatus.Error | extra);
  setInterrupt(ctx, drive, 1);
}

/** `fail`, with the first bad sector (IdeField.Lba) and what was left in the task file (§6.2.2). */
function failAt(ctx: usize, drive: usize, error: u32, extra: u32): void {
  const traits = get(ctx + IdeField.Traits);
  if ((traits & CommandBits.Addressed) !== 0) {
    writeAddress(drive, traits, load<u64>(ctx + IdeField.Lba));
    writeCount(drive, traits, get(ctx + IdeField.Remaining));
  }
  fail(ctx, drive, error, extra);
}

/** Error bits by cause (§7.9, and the error outputs of each command); Status bits above bit 8. */
function errorOf(status: u32, op: u32): u32 {
  if (status === BlockStatus.OutOfRange) return AtaError.IdNotFound;
  if (status === BlockStatus.ReadOnly || status === BlockStatus.Unsupported) return AtaError.Abort;
  if (status === BlockStatus.Media && (op === IdeOp.Read || op === IdeOp.Verify)) return AtaError.Uncorrectable;
  // What the medium or the host would not take is the drive's own fault, not the command's.
  return AtaError.Abort | (AtaStatus.DeviceFault << 8);
}

/**
 * The host has done what it was asked for. `status` is a BlockStatus; `lba` the sector that failed, below zero when
 * unknown. While a reset waits, that is all it waited for.
 */
export function finish(ctx: usize, status: u32, lba: f64): void {
  const drive = selected(ctx);
  put(ctx + IdeField.InFlight, 0);
  if (get(ctx + IdeField.Phase) === IdePhase.Reset) {
    if ((get(ctx + IdeField.Control) & AtaControl.SoftwareReset) === 0) endReset(ctx);
    return;
  }
  const op = get(ctx + IdeField.Op);
  if (status !== BlockStatus.Ok) {
    const error = errorOf(status, op);
    if (lba >= 0 && lba < 281474976710656.0) store<u64>(ctx + IdeField.Lba, lba as u64);
    failAt(ctx, drive, error & 0xff, error >> 8);
    return;
  }
  const protocol = get(ctx + IdeField.Protocol);
  if (op === IdeOp.Diagnostic) {
    // §8.11: both drives run it; drive 0 answers for both.
    setPhase(ctx, IdePhase.Idle);
    signature(ctx);
    if (isPresent(selected(ctx))) setInterrupt(ctx, selected(ctx), 1);
    return;
  }
  advance(ctx, drive);
  if (protocol === IdeProtocol.Dma) {
    endDma(ctx, drive);
    return;
  }
  if (protocol === IdeProtocol.PioIn) offerBlock(ctx, drive, IdePhase.PioIn);
  else if (protocol === IdeProtocol.PioOut && get(ctx + IdeField.Remaining) !== 0) {
    offerBlock(ctx, drive, IdePhase.PioOut);
  } else succeed(ctx, drive);
  setInterrupt(ctx, drive, 1);
}

/** Stops what is under way, before any register changes: a late completion finds the phase and is dropped. */
export function beginReset(ctx: usize): void {
  setPhase(ctx, IdePhase.Reset);
  clearActive(ctx);
  for (let i: u32 = 0; i < 2; i++) {
    const drive = driveAt(ctx, i);
    if (isPresent(drive)) setStatus(drive, AtaStatus.Busy);
    setInterrupt(ctx, drive, 0);
  }
}

/** Both drives as a reset leaves them (§9.2, §9.12), as soon as nothing is in flight. */
export function endReset(ctx: usize): void {
  if (get(ctx + IdeField.InFlight) !== 0) return;
  setPhase(ctx, IdePhase.Idle);
  signature(ctx);
}

/** Diagnostic code, signature, device 0 selected. */
export function signature(ctx: usize): void {
  put(ctx + IdeField.Selected, 0);
  for (let i: u32 = 0; i < 2; i++) {
    const drive = driveAt(ctx, i);
    for (let index: u32 = AtaRegister.Features; index <= (AtaRegister.Device as u32); index++) {
      setRegister(drive, index, 0);
      setPrevious(drive, index, 0);
    }
    setRegister(drive, AtaRegister.Device, AtaDevice.Obsolete);
    setRegister(drive, AtaRegister.Count, 1);
    setRegister(drive, AtaRegister.LbaLow, 1);
    setRegister(drive, AtaRegister.LbaMid, AtaSignature.Disk & 0xff);
    setRegister(drive, AtaRegister.LbaHigh, AtaSignature.Disk >> 8);
    if (!isPresent(drive)) continue;
    put(drive + DriveField.Error, AtaError.DiagnosticPassed);
    setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete);
  }
}
