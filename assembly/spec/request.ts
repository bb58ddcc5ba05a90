// The request table: how one WebAssembly call hands a batch of block requests to the host, and takes statuses back.
// Read by both compilers. All fields little-endian u32 unless said otherwise; addresses are linear, sizes bytes.
//
//   table ┌──────────────────┬─────────────────┬───────────────┬──────────────┐
//         │ requestCapacity  │ segmentCapacity │ requestCount  │ segmentCount │   TableField
//         ├──────────────────┴─────────────────┴───────────────┴──────────────┤
//         │ requestCapacity × request record (RequestField.Size bytes)        │
//         ├───────────────────────────────────────────────────────────────────┤
//         │ segmentCapacity × segment record: start, length                   │
//         └───────────────────────────────────────────────────────────────────┘

export const enum TableField {
  RequestCapacity = 0,
  SegmentCapacity = 4,
  RequestCount = 8,
  SegmentCount = 12,
  Records = 16,
}

export const enum RequestField {
  /** BlockOp. */
  Op = 0,
  /** BlockStatus; `Pending` when consumed, unless the core has refused the request already. */
  Status = 4,
  /** f64, bytes into the disk. */
  Offset = 8,
  /** f64, bytes: one discard may cover a whole disk. */
  Length = 16,
  /** Index of its first segment record. */
  FirstSegment = 24,
  Segments = 28,
  /** The transport's own handle: a ring slot, a descriptor head. */
  Tag = 32,
  /** Transport-private. */
  Private0 = 36,
  Private1 = 40,
  Private2 = 44,
  Private3 = 48,
  Size = 56,
}

export const enum SegmentField {
  Start = 0,
  Length = 4,
  Size = 8,
}

export const enum BlockOp {
  Read = 0,
  Write = 1,
  Flush = 2,
  Discard = 3,
  WriteZeroes = 4,
  /** Transport-level: the device's identity string goes to the segments; never reaches a Block. */
  GetId = 5,
}

export const enum BlockStatus {
  Ok = 0,
  Pending = 1,
  OutOfRange = 2,
  Media = 3,
  NoSpace = 4,
  ReadOnly = 5,
  Unsupported = 6,
  Io = 7,
  Crc = 8,
}
