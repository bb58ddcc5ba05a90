// Short hands for the channel's context (spec/ide.ts draws it), and the one place that moves the interrupt line.
import { AtaControl, AtaDevice, AtaRegister, BmStatus } from "../spec/ata";
import { DriveField, DriveKind, IdeEvent, IdeField } from "../spec/ide";

export function get(at: usize): u32 {
  return load<u32>(at);
}

export function put(at: usize, value: u32): void {
  store<u32>(at, value);
}

/** Context of drive `index`. */
export function driveAt(ctx: usize, index: u32): usize {
  return ctx + IdeField.Drives + index * DriveField.Size;
}

export function selected(ctx: usize): usize {
  return driveAt(ctx, get(ctx + IdeField.Selected));
}

export function isPresent(drive: usize): bool {
  return get(drive + DriveField.Kind) !== DriveKind.Absent;
}

export function register(drive: usize, index: u32): u32 {
  return get(drive + DriveField.Registers + index * 4);
}

export function setRegister(drive: usize, index: u32, value: u32): void {
  put(drive + DriveField.Registers + index * 4, value & 0xff);
}

export function previous(drive: usize, index: u32): u32 {
  return get(drive + DriveField.Previous + index * 4);
}

export function setPrevious(drive: usize, index: u32, value: u32): void {
  put(drive + DriveField.Previous + index * 4, value & 0xff);
}

export function usesLba(drive: usize): bool {
  return (register(drive, AtaRegister.Device) & AtaDevice.Lba) !== 0;
}

export function setStatus(drive: usize, status: u32): void {
  put(drive + DriveField.Status, status);
}

export function addEvent(ctx: usize, event: u32): void {
  put(ctx + IdeField.Event, get(ctx + IdeField.Event) | event);
}

/**
 * INTRQ is what the selected drive wants unless nIEN holds it back (ATA/ATAPI-6 §5.2.9); the bus master's Interrupt bit
 * follows its rising edge (BMIDE §2.2).
 */
export function updateLine(ctx: usize): void {
  const wanted = get(selected(ctx) + DriveField.Interrupt);
  const level: u32 = (get(ctx + IdeField.Control) & AtaControl.InterruptDisable) !== 0 ? 0 : wanted;
  if (level === get(ctx + IdeField.Line)) return;
  put(ctx + IdeField.Line, level);
  if (level !== 0) put(ctx + IdeField.BmStatus, get(ctx + IdeField.BmStatus) | BmStatus.Interrupt);
  addEvent(ctx, IdeEvent.Line);
}

/** The drive asks for attention, or withdraws. */
export function setInterrupt(ctx: usize, drive: usize, wanted: u32): void {
  put(drive + DriveField.Interrupt, wanted);
  updateLine(ctx);
}

export function clearActive(ctx: usize): void {
  put(ctx + IdeField.BmStatus, get(ctx + IdeField.BmStatus) & ~BmStatus.Active);
}
