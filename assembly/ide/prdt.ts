// The bus master's walk over a table of physical region descriptors in guest memory (BMIDE §1.2), into the request table.
// Each field of each descriptor is loaded once; at most Prd.Entries are looked at.
//
//   descriptor ┌──────────────────────┬─────────────┬──────────────┐
//              │ 0  physical address  │ 4  count    │ 7  bit 7 EOT │
//              └──────────────────────┴─────────────┴──────────────┘
import { guestRange, pushRequest, pushSegment, segmentAt, tableReset } from "../memory";
import { AtaError, BmStatus, Prd } from "../spec/ata";
import { IdeField, IdeOp, PrdOutcome } from "../spec/ide";
import { BlockOp, BlockStatus, SegmentField, TableField } from "../spec/request";
import { get, put, selected } from "./context";
import { advance, endDma, fail, inRange } from "./transfer";

/**
 * Segments for `need` bytes, as many as the table describes; answers how the two compare.
 * The whole of [address, address + count) must be guest RAM, as far as data will move there.
 */
export function walk(ctx: usize, table: usize, need: u32): u32 {
  const base = get(ctx + IdeField.RamBase);
  const size = get(ctx + IdeField.RamSize);
  let at = get(ctx + IdeField.BmTable);
  let left = need;
  for (let i: u32 = 0; i < (Prd.Entries as u32); i++, at += Prd.Size) {
    const entry = guestRange(base, size, at, 0, Prd.Size);
    if (entry === 0) return left === 0 ? PrdOutcome.Exact : PrdOutcome.BadAddress;
    const address = load<u32>(entry);
    const count = load<u32>(entry, 4);
    let length = count & Prd.Count;
    if (length === 0) length = 65536;
    const take = min(length, left);
    if (take !== 0) {
      const start = guestRange(base, size, address, 0, take);
      if (start === 0) return PrdOutcome.BadAddress;
      pushSegment(table, start as u32, take);
      left -= take;
    }
    if (length > take) return PrdOutcome.Long;
    if ((count & Prd.EndOfTable) !== 0) return left === 0 ? PrdOutcome.Exact : PrdOutcome.Short;
  }
  return left === 0 ? PrdOutcome.Exact : PrdOutcome.Short;
}

/** Bytes of the segments in the table. */
function room(table: usize): u32 {
  let bytes: u32 = 0;
  const count = load<u32>(table, TableField.SegmentCount);
  for (let i: u32 = 0; i < count; i++) bytes += load<u32>(segmentAt(table, i), SegmentField.Length);
  return bytes;
}

/**
 * Prepares the DMA that Event asked for: 1 with its one request in the table, or 0 when the command has already ended.
 * `master` is 0 when the PCI function may not reach memory. Sets IdeField.Event.
 */
export function idePrd(ctx: usize, master: u32): u32 {
  const drive = selected(ctx);
  const table = get(ctx + IdeField.Table) as usize;
  let need = get(ctx + IdeField.Moving) * get(ctx + IdeField.Unit);
  const write = get(ctx + IdeField.Op) === IdeOp.Write;
  put(ctx + IdeField.Event, 0);
  tableReset(table);
  let outcome: u32 = master !== 0 ? walk(ctx, table, need) : PrdOutcome.NoBusMaster;
  put(ctx + IdeField.Outcome, outcome);
  if (outcome === PrdOutcome.Short) {
    if (get(ctx + IdeField.Op) !== IdeOp.Packet) {
      // As QEMU's disks: nothing moves, and the command ends unheard.
      endDma(ctx, drive);
      return 0;
    }
    // What there is room for moves, and the drive waits for more (see transfer.ts, IdeAnswer.Dma).
    need = room(table);
  }
  if (!inRange(ctx, drive)) return 0;
  if (outcome === PrdOutcome.BadAddress || (outcome === PrdOutcome.NoBusMaster && write)) {
    // Nothing has been written; the bus master reports the failed access, the drive the command it could not finish.
    put(ctx + IdeField.BmStatus, get(ctx + IdeField.BmStatus) | BmStatus.Error);
    fail(ctx, drive, AtaError.Abort, 0);
    return 0;
  }
  if (outcome === PrdOutcome.NoBusMaster) {
    // The drive is read and the data falls on the floor, as nobody takes it from the bus.
    advance(ctx, drive);
    endDma(ctx, drive);
    return 0;
  }
  const offset = (load<u64>(ctx + IdeField.Lba) as f64) * (get(ctx + IdeField.Unit) as f64);
  pushRequest(table, write ? BlockOp.Write : BlockOp.Read, BlockStatus.Pending, offset, need as f64, 0, 0);
  return 1;
}
