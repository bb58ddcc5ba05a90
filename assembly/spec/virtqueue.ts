// The contexts of a virtqueue's two halves: private memory of the host (device half) and of the guest's driver, never
// named by the other side. Addresses are linear unless said otherwise; fields u32 unless said otherwise.
//
//   device half                                driver half
//   ┌─────────────────────────────┐            ┌─────────────────────────────┐
//   │ queue, indexes, fault       │            │ queue, indexes, free list   │
//   │ disk's limits               │            ├─────────────────────────────┤
//   ├─────────────────────────────┤            │ completions: tag, status    │
//   │ completions: head, status   │ host → core├─────────────────────────────┤
//   ├─────────────────────────────┤            │ heads: tag, descriptors     │ in flight
//   │ slots, one a head           │ in flight  ├─────────────────────────────┤
//   ├─────────────────────────────┤            │ next free, one a descriptor │
//   │ stamps: direct, indirect    │ loops      └─────────────────────────────┘
//   ├─────────────────────────────┤
//   │ chain: the one being parsed │
//   └─────────────────────────────┘

export const enum VqLimit {
  /** Largest queue size. */
  Queue = 256,
  /** Elements of one chain, header and status byte included; also entries of an indirect table. */
  // biome-ignore lint/suspicious/noDuplicateEnumValues: a limit of its own
  Chain = 256,
  /** Ranges of one discard or write-zeroes request. */
  Ranges = 32,
  /** Request records of a consume's table: a full queue and, on top of it, the widest request. */
  TableRequests = 288,
  TableSegments = 2048,
}

export const enum VqDevice {
  RamBase = 0,
  RamSize = 4,
  QueueSize = 8,
  Descriptors = 12,
  Available = 16,
  Used = 20,
  /** VqFeature bits. */
  Features = 24,
  /** The request table that consume fills. */
  Table = 28,
  /** Index of the next available entry to consume (u16 range). */
  LastAvailable = 32,
  UsedIndex = 36,
  /** VqFault; once set, nothing more is consumed. */
  Fault = 40,
  /** The current chain's stamp, and that of the first chain of this call. */
  Stamp = 44,
  FirstStamp = 48,
  /** What the walk found: elements in `Chain`, how many of them come first and are read-only, bytes of each kind (u64). */
  ChainCount = 52,
  ChainReadable = 56,
  /** Address of the last device-writable byte, 0 when it cannot be told. */
  ChainLast = 60,
  ReadableBytes = 64,
  WritableBytes = 72,
  /** VqRefusal of the current chain. */
  Refusal = 80,
  /** Block size in sectors. */
  BlockSectors = 84,
  /** f64, the disk's size in bytes. */
  Capacity = 88,
  /** BlkAbility bits. */
  Abilities = 96,
  /** 16 bytes: a header or a range that lies across elements is gathered here. */
  Gathered = 100,
  /** As many as a table has requests. */
  Completions = 116,
  Slots = 2420,
  DirectStamps = 6516,
  IndirectStamps = 7540,
  Chain = 8564,
  Size = 10612,
}

/** A finished record, host → core. */
export const enum VqCompletion {
  /** The head; in the driver half the request's tag. */
  Head = 0,
  /** BlockStatus. */
  Status = 4,
  Size = 8,
}

/** A request in flight, by head. */
export const enum VqSlot {
  /** Records not finished yet; 0 when the head is the driver's. */
  Parts = 0,
  /** BlockStatus so far. */
  Status = 4,
  StatusAddress = 8,
  /** What the used element will say. */
  Length = 12,
  Size = 16,
}

export const enum VqElement {
  Start = 0,
  Length = 4,
  Size = 8,
}

export const enum VqFeature {
  Indirect = 1,
  EventIndex = 2,
  /** Driver half: ask for interrupts only when a poll found the device still busy. */
  PollFirst = 4,
}

/** What the disk and the negotiation allow. */
export const enum BlkAbility {
  Write = 1,
  Flush = 2,
  Discard = 4,
  WriteZeroes = 8,
}

/** Why a queue was given up: the chain cannot be followed, or the request has no place for its status. */
export const enum VqFault {
  None = 0,
  /** The available index is further ahead than the queue is long. */
  AvailableIndex = 1,
  Head = 2,
  /** The head is in flight already. */
  HeadBusy = 3,
  Next = 4,
  /** A descriptor stands twice in a chain, or in two chains of one notification. */
  Loop = 5,
  /** Not negotiated, or with a next descriptor (§2.7.5.3.1). */
  Indirect = 6,
  IndirectLength = 7,
  IndirectRange = 8,
  TooLong = 9,
  NoStatus = 10,
}

/** Why a request failed before it reached the disk; its record's Private0. */
export const enum VqRefusal {
  None = 0,
  /** An element outside guest RAM. */
  Address = 1,
  Empty = 2,
  /** A device-readable element after a device-writable one (§2.7.4.2). */
  Order = 3,
  NestedIndirect = 4,
  Header = 5,
  Type = 6,
  /** Data that is no whole number of blocks, or a start inside one. */
  Length = 7,
  Range = 8,
  ReadOnly = 9,
  /** A discard or write-zeroes payload: its size or its flags. */
  Payload = 10,
}

/** What complete answers: bits. */
export const enum VqAnswer {
  Interrupt = 1,
  /** More requests are available. */
  More = 2,
}

export const enum VqDriver {
  RamBase = 0,
  QueueSize = 4,
  Descriptors = 8,
  Available = 12,
  Used = 16,
  Features = 20,
  Table = 24,
  AvailableIndex = 28,
  LastUsed = 32,
  FreeHead = 36,
  FreeCount = 40,
  InFlight = 44,
  /** Guest-physical: DriverSlot records, one a head. */
  Slots = 48,
  /** Guest-physical: indirect tables, one a head, and entries of each. */
  IndirectTables = 52,
  IndirectEntries = 56,
  Completions = 64,
  Heads = 2112,
  NextFree = 4160,
  Size = 5184,
}

/** A head in flight in the driver half. */
export const enum VqHead {
  Tag = 0,
  /** Descriptors its chain holds; 0 when free. */
  Descriptors = 4,
  Size = 8,
}

/** What the driver keeps in guest RAM for each head. */
export const enum DriverSlot {
  Header = 0,
  Range = 16,
  Status = 32,
  Size = 64,
}

/** What poll answers when the used ring makes no sense. */
export const enum VqPoll {
  Broken = -1,
}
