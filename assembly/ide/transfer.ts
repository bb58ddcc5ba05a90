// What a drive goes through from an accepted command to its end: DRQ blocks, DMA, completion and errors. The host is
// asked for one thing at a time (IdeEvent.Io or Execute) and answers with `finish`.
import { AtaError, AtaReason, AtaRegister, AtaStatus, AtaTransfer, BmStatus } from "../spec/ata";
import {
  CommandBits,
  DriveField,
  DriveKind,
  IdeAbort,
  IdeAnswer,
  IdeEvent,
  IdeField,
  IdeOp,
  IdePhase,
  IdeProtocol,
  PrdOutcome,
} from "../spec/ide";
import { BlockStatus } from "../spec/request";
import { writeAddress, writeCount } from "./address";
import { addEvent, clearActive, get, isPresent, put, selected, setInterrupt, setRegister, setStatus } from "./context";
import { dropDma, endAbort, endReset, sign, signature } from "./reset";

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
    // §9.12: what a host takes for a disk shows itself as a packet device.
    const signs = (get(ctx + IdeField.Traits) & CommandBits.Signature) !== 0;
    if (signs && get(drive + DriveField.Kind) === DriveKind.Packet) sign(drive);
    fail(ctx, drive, get(ctx + IdeField.Fault), 0);
  } else if (protocol === IdeProtocol.PioOut) {
    offerSectors(ctx, drive, IdePhase.PioOut);
  } else if (protocol === IdeProtocol.Dma) {
    setPhase(ctx, IdePhase.Dma);
    setStatus(drive, ready | AtaStatus.DataRequest);
    startDma(ctx);
  } else {
    setPhase(ctx, IdePhase.Busy);
    setStatus(drive, AtaStatus.Busy | AtaStatus.Ready);
    if (protocol === IdeProtocol.Device) {
      put(ctx + IdeField.Moving, 0);
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

/** DRQ: `bytes` of the buffer are the guest's to read or fill. */
function offer(ctx: usize, drive: usize, phase: u32, bytes: u32): void {
  put(ctx + IdeField.BufferAt, 0);
  put(ctx + IdeField.BufferEnd, bytes);
  setPhase(ctx, phase);
  setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete | AtaStatus.DataRequest);
}

/** The next block of sectors. */
function offerSectors(ctx: usize, drive: usize, phase: u32): void {
  if (phase === IdePhase.PioOut) put(ctx + IdeField.Moving, nextBlock(ctx));
  offer(ctx, drive, phase, get(ctx + IdeField.Moving) * get(ctx + IdeField.Unit));
}

function nextBlock(ctx: usize): u32 {
  return min(get(ctx + IdeField.Block), get(ctx + IdeField.Remaining));
}

/** The guest has read, or filled, the whole block. */
export function blockTaken(ctx: usize, drive: usize): void {
  const own = get(ctx + IdeField.Protocol) === IdeProtocol.Device;
  const reads = get(ctx + IdeField.Phase) === IdePhase.PioIn;
  if (reads && (own ? get(ctx + IdeField.Last) !== 0 : get(ctx + IdeField.Remaining) === 0)) {
    // §9.5: a PIO data-in command ends with its last word, without an interrupt.
    succeed(ctx, drive);
    return;
  }
  setPhase(ctx, IdePhase.Busy);
  setStatus(drive, AtaStatus.Busy | AtaStatus.Ready);
  if (own) {
    put(ctx + IdeField.Step, get(ctx + IdeField.Step) + 1);
    ask(ctx, IdeEvent.Execute);
  } else moveBlock(ctx, drive);
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
  if (get(ctx + IdeField.Protocol) === IdeProtocol.Device) return true;
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

/** Accounts for what has moved, and shows it in the task file. */
export function advance(ctx: usize, drive: usize): void {
  const traits = get(ctx + IdeField.Traits);
  if ((traits & CommandBits.Addressed) === 0) {
    put(ctx + IdeField.Remaining, 0);
    return;
  }
  const moved = get(ctx + IdeField.Moving);
  const lba = load<u64>(ctx + IdeField.Lba) + moved;
  const remaining = get(ctx + IdeField.Remaining) - moved;
  store<u64>(ctx + IdeField.Lba, lba);
  put(ctx + IdeField.Remaining, remaining);
  // §8.36: a verify that succeeds says nothing of where; drives leave the task file as it was.
  if (get(ctx + IdeField.Op) === IdeOp.Verify) return;
  writeAddress(drive, traits, lba);
  writeCount(drive, traits, remaining);
}

function succeed(ctx: usize, drive: usize): void {
  setPhase(ctx, IdePhase.Idle);
  setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete);
}

/** ATA/ATAPI-6, interrupt reason: Count as the end of a packet command. */
function reason(ctx: usize, drive: usize, value: u32): void {
  if (get(ctx + IdeField.Op) === IdeOp.Packet) setRegister(drive, AtaRegister.Count, value);
}

/** Ends a DMA command as its PRD table has it (BMIDE §3.1). */
export function endDma(ctx: usize, drive: usize): void {
  const outcome = get(ctx + IdeField.Outcome);
  put(ctx + IdeField.InFlight, 0);
  reason(ctx, drive, AtaReason.Command | AtaReason.ToHost);
  succeed(ctx, drive);
  if (outcome !== PrdOutcome.Long && outcome !== PrdOutcome.NoBusMaster) clearActive(ctx);
  if (outcome !== PrdOutcome.Short) setInterrupt(ctx, drive, 1);
}

/** Ends the command with an error; `extra` is or-ed into Status. */
export function fail(ctx: usize, drive: usize, error: u32, extra: u32): void {
  const phase = get(ctx + IdeField.Phase);
  if (get(ctx + IdeField.Protocol) === IdeProtocol.Dma || phase === IdePhase.Dma) clearActive(ctx);
  put(ctx + IdeField.InFlight, 0);
  put(drive + DriveField.Error, error);
  reason(ctx, drive, AtaReason.Command | AtaReason.ToHost);
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

function isUltra(ctx: usize, drive: usize): bool {
  const kind = get(drive + DriveField.TransferMode) & AtaTransfer.Kind;
  return get(ctx + IdeField.Protocol) === IdeProtocol.Dma && kind === AtaTransfer.UltraDma;
}

/** Error bits by cause (§7.9, and the error outputs of each command); Status bits above bit 8. */
function errorOf(ctx: usize, drive: usize, status: u32, op: u32): u32 {
  // §7.9: ICRC is an Ultra DMA transfer's alone.
  if (status === BlockStatus.Crc && isUltra(ctx, drive)) return AtaError.InterfaceCrc | AtaError.Abort;
  if (status === BlockStatus.OutOfRange) return AtaError.IdNotFound;
  if (status === BlockStatus.ReadOnly || status === BlockStatus.Unsupported) return AtaError.Abort;
  if (status === BlockStatus.Media && (op === IdeOp.Read || op === IdeOp.Verify)) return AtaError.Uncorrectable;
  // What the medium or the host would not take is the drive's own fault, not the command's.
  return AtaError.Abort | (AtaStatus.DeviceFault << 8);
}

/**
 * The host has done what it was asked for. `answer` is a BlockStatus or an IdeAnswer; `lba` the sector that failed, below
 * zero when unknown. While a reset waits, that is all it waited for.
 */
export function finish(ctx: usize, answer: u32, lba: f64): void {
  const drive = selected(ctx);
  put(ctx + IdeField.InFlight, 0);
  if (get(ctx + IdeField.Phase) === IdePhase.Reset) {
    dropDma(ctx);
    endReset(ctx);
    return;
  }
  if (get(ctx + IdeField.Abort) !== IdeAbort.None) {
    endAbort(ctx);
    return;
  }
  const failed = answer !== (BlockStatus.Ok as u32);
  if (failed && lba >= 0 && lba < 281474976710656.0) store<u64>(ctx + IdeField.Lba, lba as u64);
  if (answer >= (IdeAnswer.Error as u32)) {
    carryOn(ctx, drive, answer);
    return;
  }
  const op = get(ctx + IdeField.Op);
  if (failed) {
    const error = errorOf(ctx, drive, answer, op);
    failAt(ctx, drive, error & 0xff, error >> 8);
    return;
  }
  if (op === IdeOp.Diagnostic) {
    // §8.11: both drives run it; drive 0 answers for both.
    setPhase(ctx, IdePhase.Idle);
    signature(ctx);
    if (isPresent(selected(ctx))) setInterrupt(ctx, selected(ctx), 1);
    return;
  }
  const protocol = get(ctx + IdeField.Protocol);
  if (protocol === IdeProtocol.Device) {
    // A DMA that the device had asked for ends as its table has it, any other command here and now.
    if (get(ctx + IdeField.Phase) === IdePhase.Dma) endDma(ctx, drive);
    else end(ctx, drive);
    return;
  }
  advance(ctx, drive);
  if (protocol === IdeProtocol.Dma) {
    endDma(ctx, drive);
    return;
  }
  if (protocol === IdeProtocol.PioIn) offerSectors(ctx, drive, IdePhase.PioIn);
  else if (protocol === IdeProtocol.PioOut && get(ctx + IdeField.Remaining) !== 0) {
    offerSectors(ctx, drive, IdePhase.PioOut);
  } else succeed(ctx, drive);
  setInterrupt(ctx, drive, 1);
}

function end(ctx: usize, drive: usize): void {
  reason(ctx, drive, AtaReason.Command | AtaReason.ToHost);
  succeed(ctx, drive);
  setInterrupt(ctx, drive, 1);
}

/** A command of the device's own goes on, or ends, as the device has it. */
function carryOn(ctx: usize, drive: usize, answer: u32): void {
  const value = answer & IdeAnswer.Value;
  const kind = answer & IdeAnswer.Kind;
  if (kind === IdeAnswer.Error) {
    failAt(ctx, drive, value & 0xff, value >> 8);
    return;
  }
  if (kind === IdeAnswer.Dma) {
    // BMIDE §3.1: a table that ends before the data stops the bus master. It does not stop the drive, which has DRQ set
    // until all has moved (§9.8), and goes on with the next table.
    if (get(ctx + IdeField.Phase) === IdePhase.Dma) clearActive(ctx);
    put(ctx + IdeField.Unit, 1);
    put(ctx + IdeField.Remaining, value);
    setPhase(ctx, IdePhase.Dma);
    setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete | AtaStatus.DataRequest);
    startDma(ctx);
    return;
  }
  if (kind === IdeAnswer.Done) {
    reason(ctx, drive, AtaReason.Command | AtaReason.ToHost);
    setPhase(ctx, IdePhase.Idle);
    setStatus(drive, value);
  } else if (kind === IdeAnswer.DataOut) {
    offer(ctx, drive, IdePhase.PioOut, value);
  } else {
    put(ctx + IdeField.Last, kind === IdeAnswer.DataInLast ? 1 : 0);
    offer(ctx, drive, IdePhase.PioIn, value);
  }
  if ((answer & IdeAnswer.Quiet) === 0) setInterrupt(ctx, drive, 1);
}
