// What the device half of the PVSCSI rings keeps for itself, at an address the host passes: never in memory that the guest
// can write. Little-endian u32 unless said otherwise; addresses are linear. Read by both compilers.

export const enum PvscsiCapacity {
  /** Records of one call. */
  Commands = 128,
  /** Segments of one call, and of one command: the elements of its list, those of length zero and the chaining ones included. */
  Segments = 4096,
  Elements = 2048,
  /** Bytes that one command can move: its list is followed no further. Linux's driver asks for 32 MiB at most. */
  Bytes = 33554432,
  /** Completions of one call: all that can be in flight. */
  Completions = 1024,
}

export const enum PvscsiContext {
  /** Guest RAM: linear address of guest-physical 0, and bytes. */
  RamBase = 0,
  RamSize = 4,
  /** Address of the rings state page; 0 while there are no rings. */
  State = 8,
  /** Entries of each ring, powers of two; of the message ring 0 while there is none. */
  RequestEntries = 12,
  CompletionEntries = 16,
  MessageEntries = 20,
  /** Free-running, modulo 2^32: requests taken, completions and messages written. */
  Consumed = 24,
  Completed = 28,
  Messages = 32,
  /** Commands taken and not completed. */
  InFlight = 36,
  /** Records and segments of the last `pvscsiConsume`. */
  CommandCount = 40,
  SegmentCount = 44,
  /** Addresses of ring pages. */
  RequestPages = 48,
  CompletionPages = 176,
  MessagePages = 304,
  /** PvscsiCapacity.Commands PvscsiRecord. */
  Commands = 368,
  /** PvscsiCapacity.Segments pairs of start and length. */
  Segments = 12656,
  /** PvscsiCapacity.Completions PvscsiDone, written by the host for `pvscsiComplete`. */
  Done = 45424,
  Size = 70000,
}

/** A request as it was taken off the ring. */
export const enum PvscsiRecord {
  /** u64. */
  Context = 0,
  /** PvscsiCdb.Size bytes, zero from the CDB's length on. */
  Cdb = 8,
  CdbLength = 24,
  /** HostStatus: Success, or why the request cannot be carried out. */
  Refusal = 28,
  Flags = 32,
  /** bus << 8 | target. */
  Target = 36,
  /** u64: the LUN's bytes as they stand. */
  Lun = 40,
  /** Linear address of the sense buffer, 0 when there is none inside RAM; its bytes. */
  Sense = 48,
  SenseLength = 52,
  /** Its segments, and the sum of their lengths. */
  FirstSegment = 56,
  Segments = 60,
  Bytes = 64,
  /** Guest-physical address of what is at `Sense`. */
  SenseAddress = 68,
  /** The request's dataLen, at most 2^32 - 1. */
  DataLength = 72,
  Size = 96,
}

/** A completion to be written. */
export const enum PvscsiDone {
  /** u64. */
  Context = 0,
  DataLength = 8,
  SenseLength = 12,
  /** HostStatus | status of SCSI << 16. */
  Status = 16,
  Size = 24,
}

/** What a call answers, ORed. */
export const enum PvscsiAnswer {
  /** The driver has to be interrupted. */
  Interrupt = 1,
  /** There may be more to take. */
  More = 2,
}
