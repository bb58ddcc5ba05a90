// The map context: how one WebAssembly call translates a batch of guest ranges into store extents.
// Read by both compilers. Little-endian; positions, offsets and lengths are bytes. The host lays it out (src/wasm/map.ts).
//
//   ctx ┌──────────────────────────────────────────────────────┐
//       │ what is mapped, why it stopped               MapField│
//       ├──────────────────────────────────────────────────────┤
//       │ top entries · leaf entries                 EntryField│  how to read a table entry of either level
//       │ top cache · leaf cache                     CacheField│  where its cached pages are
//       ├──────────────────────────────────────────────────────┤ MapField.Ranges
//       │ MaxRanges × range record                   RangeField│  in: consumed from the front as they are answered
//       ├──────────────────────────────────────────────────────┤ MapField.Extents
//       │ MaxExtents × extent record                ExtentField│  out
//       ├──────────────────────────────────────────────────────┤
//       │ tags, then pages, of the top and the leaf cache      │  addresses in CacheField
//       └──────────────────────────────────────────────────────┘
//
// Up to two levels of metadata stand between a guest byte and its place:
//   Flat   none
//   Table  top entry = a block of data, whose sector bitmap, if the format has one, is the leaf
//   Tree   top entry = a leaf table, leaf entry = a cluster of data
//   Qcow2  the same with flags in the entries: zeros, compressed, shared (not to be written in place), subclusters

export const enum MapKind {
  Flat = 0,
  Table = 1,
  Tree = 2,
  Qcow2 = 3,
}

/** The values are those of `ExtentKind` in src/core/format.ts. */
export const enum MapExtent {
  Data = 0,
  Zero = 1,
  Backing = 2,
  Packed = 3,
}

/** The values are those of `MapStop` in src/core/format.ts. */
export const enum MapEnd {
  Done = 0,
  Full = 1,
  Miss = 2,
  Allocate = 3,
  Corrupt = 4,
}

export const enum MapLimit {
  Ranges = 256,
  Extents = 1024,
  /** Ways of each cache set. */
  Ways = 4,
}

export const enum MapField {
  /** MapKind. */
  Kind = 0,
  /** MapExtent of what has no place: Zero, or Backing for an image with a parent. */
  Hole = 4,
  ExtentCount = 8,
  StopRange = 12,
  /** Miss: page number × 2 + level (0 top, 1 leaf). */
  StopKey = 16,
  /** log2 of the bytes behind one data entry: a VHD block, a qcow2 cluster. */
  BlockShift = 20,
  /** Tree: log2 of the bytes behind one top entry. */
  SpanShift = 24,
  /** log2 of the bytes of one leaf object: a leaf table, or a block's bitmap. */
  LeafShift = 28,
  /** Table: log2 of the bytes that one bitmap bit stands for; 0 when blocks have no bitmap. */
  BitShift = 32,
  /** Qcow2: MapFlag bits. */
  Flags = 36,
  /** f64, guest byte. */
  StopOffset = 40,
  /** f64, Allocate: bytes from StopOffset that have no place. */
  StopLength = 48,
  /** f64. Miss: where in the store the page is; Corrupt: where the entry points. */
  StopPosition = 56,
  /** Flat: where guest byte 0 is. The other kinds: no entry may point below this. */
  Base = 64,
  /** u64: no entry may point to bytes at or past this. */
  Limit = 72,
  /** u64 each: the top table in the store; no entry may point into it. */
  TableStart = 80,
  TableEnd = 88,
  /** The run answered last: its extent kind, and u64 position and length. */
  RunKind = 96,
  RunPosition = 104,
  RunLength = 112,
  Top = 120,
  Leaf = 176,
  TopCache = 232,
  LeafCache = 264,
  Ranges = 296,
  /** Ranges + MapLimit.Ranges × RangeField.Size. */
  Extents = 6440,
  /** u64, Qcow2: Extents + MapLimit.Extents × ExtentField.Size. Store bytes from here on do not exist yet: zeros. */
  DataEnd = 31016,
  Size = 31024,
}

/** How a qcow2 image differs from the plainest one. */
export const enum MapFlag {
  /** "Extended L2 Entries": 16 bytes each, 32 subclusters. */
  Extended = 1,
  /** Clusters are in another store, where position 0 is as good as any. */
  External = 2,
  /** Version 2 has no zero flag. */
  NoZero = 4,
}

/** How to read one table entry. */
export const enum EntryField {
  /** log2 of the entry's bytes: 2 or 3. */
  Shift = 0,
  BigEndian = 4,
  /** u64: the bits that say where; the rest are flags. */
  Mask = 8,
  /** u64, of the masked entry: has no place. */
  Absent = 16,
  /** u64, of the masked entry: reads as zeros. Equal to Absent where the format has no such value. */
  Zero = 24,
  /** u64: bytes per unit of the masked entry. */
  Unit = 32,
  /** u64: bytes from where the entry points to the data (VHD: past the sector bitmap). */
  Data = 40,
  /** u64, Table: the store byte that entry 0 points to (VDI: where the blocks begin). */
  Origin = 48,
  Size = 56,
}

export const enum CacheField {
  /** log2 of the page's bytes. */
  PageShift = 0,
  /** Number of sets, a power of two, minus 1. */
  SetMask = 4,
  /** Address of sets × ways × tag record. */
  Tags = 8,
  /** Address of sets × ways pages. */
  Pages = 12,
  /** Counts uses; the least stamp of a set is its least recently used page. */
  Clock = 16,
  Hits = 20,
  Misses = 24,
  // 28: free
  Size = 32,
}

export const enum TagField {
  /** Page number + 1; 0 when the way is empty. */
  Key = 0,
  Stamp = 4,
  Size = 8,
}

export const enum RangeField {
  /** f64. */
  Offset = 0,
  /** f64. */
  Length = 8,
  /** 1 when the range is to be written: it needs places. */
  Write = 16,
  // 20: free
  Size = 24,
}

export const enum ExtentField {
  /** f64. */
  Position = 0,
  /** f64. */
  Length = 8,
  /** MapExtent. */
  Kind = 16,
  /** Index of the range it belongs to. */
  Range = 20,
  Size = 24,
}
