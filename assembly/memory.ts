// The one bounds check between guest-physical and linear addresses, and the request table's writers.
// Guest memory is shared with a guest that may change it at any time: load each field once, into a local, before use.
import { RequestField, SegmentField, TableField } from "./spec/request";

/**
 * Linear address of guest-physical [low | high << 32, + length), or 0 when any of it lies outside guest RAM.
 * RAM is [base, base + size) in linear memory and never starts at 0.
 */
export function guestRange(base: usize, size: u32, low: u32, high: u32, length: u32): usize {
  if (high !== 0 || low > size || length > size - low) return 0;
  return base + low;
}

export function tableReset(table: usize): void {
  store<u32>(table, 0, TableField.RequestCount);
  store<u32>(table, 0, TableField.SegmentCount);
}

/** Address of request record `index`. */
export function requestAt(table: usize, index: u32): usize {
  return table + TableField.Records + index * RequestField.Size;
}

/** Address of segment record `index`. */
export function segmentAt(table: usize, index: u32): usize {
  const requests = load<u32>(table, TableField.RequestCapacity);
  return table + TableField.Records + requests * RequestField.Size + index * SegmentField.Size;
}

/** Room for `segments` more segment records? */
export function tableHasRoom(table: usize, segments: u32): bool {
  return (
    load<u32>(table, TableField.RequestCount) < load<u32>(table, TableField.RequestCapacity) &&
    segments <= load<u32>(table, TableField.SegmentCapacity) - load<u32>(table, TableField.SegmentCount)
  );
}

/** Appends a segment; the caller has checked `tableHasRoom`. */
export function pushSegment(table: usize, start: u32, length: u32): void {
  const index = load<u32>(table, TableField.SegmentCount);
  const at = segmentAt(table, index);
  store<u32>(at, start, SegmentField.Start);
  store<u32>(at, length, SegmentField.Length);
  store<u32>(table, index + 1, TableField.SegmentCount);
}

/**
 * Appends a request whose segments are those pushed since `firstSegment`; returns the record's address, its private
 * fields zeroed.
 */
export function pushRequest(
  table: usize,
  op: u32,
  status: u32,
  offset: f64,
  length: f64,
  firstSegment: u32,
  tag: u32,
): usize {
  const index = load<u32>(table, TableField.RequestCount);
  const at = requestAt(table, index);
  store<u32>(at, op, RequestField.Op);
  store<u32>(at, status, RequestField.Status);
  store<f64>(at, offset, RequestField.Offset);
  store<f64>(at, length, RequestField.Length);
  store<u32>(at, firstSegment, RequestField.FirstSegment);
  store<u32>(at, load<u32>(table, TableField.SegmentCount) - firstSegment, RequestField.Segments);
  store<u32>(at, tag, RequestField.Tag);
  store<u64>(at, 0, RequestField.Private0);
  store<u64>(at, 0, RequestField.Private2);
  store<u32>(table, index + 1, TableField.RequestCount);
  return at;
}
