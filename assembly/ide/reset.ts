// Resets: SRST and the reset wire for both drives, DEVICE RESET and IDLE IMMEDIATE for the one that is busy. What is in
// flight is waited for, with BSY set, before any register changes: a late completion finds the phase and is dropped.
import { AtaControl, AtaDevice, AtaError, AtaRegister, AtaSignature, AtaStatus, BmStatus } from "../spec/ata";
import { DriveField, DriveKind, IdeAbort, IdeEvent, IdeField, IdePhase, PrdOutcome } from "../spec/ide";
import {
  addEvent,
  clearActive,
  driveAt,
  get,
  isPresent,
  put,
  register,
  selected,
  setInterrupt,
  setPrevious,
  setRegister,
  setStatus,
} from "./context";

/** SRST is set, or the reset wire is pulled. */
export function beginReset(ctx: usize): void {
  const phase = get(ctx + IdeField.Phase);
  const moving = phase === IdePhase.Dma && get(ctx + IdeField.InFlight) !== 0;
  if (phase !== IdePhase.Reset && !moving) put(ctx + IdeField.Outcome, PrdOutcome.None);
  put(ctx + IdeField.Phase, IdePhase.Reset);
  put(ctx + IdeField.Abort, IdeAbort.None);
  for (let i: u32 = 0; i < 2; i++) {
    const drive = driveAt(ctx, i);
    if (isPresent(drive)) setStatus(drive, AtaStatus.Busy);
    setInterrupt(ctx, drive, 0);
  }
  addEvent(ctx, IdeEvent.Reset);
}

/**
 * The bus master does not hear a drive's reset. Data that was on its way gets there, and ends the transfer as it would have
 * ended it, as in QEMU; that the drive no longer asks for the interrupt is another matter.
 */
export function dropDma(ctx: usize): void {
  if (get(ctx + IdeField.Outcome) === PrdOutcome.None) return;
  put(ctx + IdeField.Outcome, PrdOutcome.None);
  clearActive(ctx);
  put(ctx + IdeField.BmStatus, get(ctx + IdeField.BmStatus) | BmStatus.Interrupt);
}

/** Both drives as a reset leaves them (§9.2, §9.12), as soon as SRST has fallen and nothing is in flight. */
export function endReset(ctx: usize): void {
  if (get(ctx + IdeField.InFlight) !== 0) return;
  if ((get(ctx + IdeField.Control) & AtaControl.SoftwareReset) !== 0) return;
  put(ctx + IdeField.Phase, IdePhase.Idle);
  signature(ctx);
}

/** The selected drive gives up what it is at; `why` is an IdeAbort. */
export function beginAbort(ctx: usize, why: u32): void {
  const drive = selected(ctx);
  put(ctx + IdeField.Abort, why);
  put(ctx + IdeField.Phase, IdePhase.Busy);
  setStatus(drive, AtaStatus.Busy);
  setInterrupt(ctx, drive, 0);
  clearActive(ctx);
  addEvent(ctx, IdeEvent.Abort);
  endAbort(ctx);
}

/** §8.9, §8.18: DEVICE RESET ends without an interrupt, IDLE IMMEDIATE with one. */
export function endAbort(ctx: usize): void {
  if (get(ctx + IdeField.InFlight) !== 0) return;
  const drive = selected(ctx);
  const why = get(ctx + IdeField.Abort);
  put(ctx + IdeField.Abort, IdeAbort.None);
  put(ctx + IdeField.Phase, IdePhase.Idle);
  if (why === IdeAbort.DeviceReset) {
    sign(drive);
    setRegister(drive, AtaRegister.Device, register(drive, AtaRegister.Device) & ~AtaDevice.Head);
    put(drive + DriveField.Error, AtaError.DiagnosticPassed);
    setStatus(drive, 0);
    return;
  }
  put(drive + DriveField.Error, 0);
  setStatus(drive, AtaStatus.Ready | AtaStatus.SeekComplete);
  setInterrupt(ctx, drive, 1);
}

/** §9.12: the signature of one drive. */
export function sign(drive: usize): void {
  const kind = get(drive + DriveField.Kind);
  let value: u32 = AtaSignature.Disk;
  if (kind === DriveKind.Packet) value = AtaSignature.Packet;
  else if (kind === DriveKind.Absent) value = AtaSignature.None;
  setRegister(drive, AtaRegister.Count, 1);
  setRegister(drive, AtaRegister.LbaLow, 1);
  setRegister(drive, AtaRegister.LbaMid, value);
  setRegister(drive, AtaRegister.LbaHigh, value >> 8);
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
    sign(drive);
    if (!isPresent(drive)) continue;
    put(drive + DriveField.Error, AtaError.DiagnosticPassed);
    // §9.12: a packet device does not set DRDY.
    const packet = get(drive + DriveField.Kind) === DriveKind.Packet;
    setStatus(drive, packet ? 0 : AtaStatus.Ready | AtaStatus.SeekComplete);
  }
}
