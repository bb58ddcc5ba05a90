// What our two ring halves and the grant map keep for themselves, at an address the host passes: never in memory that
// the other end can write. Little-endian u32 unless said otherwise; addresses are linear. Read by both compilers.

/** One guest's grant table, as the hypervisor sees it. */
export const enum GrantContext {
  /** Address of entry 0 of the shared table, in guest RAM. */
  Shared = 0,
  /** Entries in it. */
  Entries = 4,
  /** Address of that many ActiveGrant records. */
  Active = 8,
  /** Guest RAM: linear address of guest-physical 0, and bytes. */
  RamBase = 12,
  RamSize = 16,
  Size = 24,
}

/** What stands behind a mapped entry: taken from the shared entry when it is first mapped, and not read again. */
export const enum ActiveGrant {
  /** Address of the granted page; its low 12 bits, always zero in the address, hold the entry's flags. */
  Page = 0,
  /** How often it is mapped now. */
  Pins = 4,
  Size = 8,
}

/** One end of a shared ring (io/ring.h, *_front_ring and *_back_ring). */
export const enum RingContext {
  /** Bytes per entry. */
  Stride = 0,
  /** Entries, a power of two. */
  Entries = 4,
  /** Front: req_prod_pvt. Back: rsp_prod_pvt. */
  Produced = 8,
  /** Front: rsp_cons. Back: req_cons. */
  Consumed = 12,
  /** A private copy of an entry that straddles two ring pages. */
  Scratch = 16,
  /** 2^4 addresses of ring pages at most. */
  Pages = 128,
  Size = 192,
}

/** A block back end: a RingContext followed by these. */
export const enum BlkbackContext {
  /** Bytes before the id in an entry, which names the ABI (Blkif64.Body, Blkif32.Body). */
  Body = 192,
  /** GrantContext of the guest. */
  Grants = 196,
  /** The domain whose grants these must be: the back end's own. */
  Domain = 200,
  /** log2 of the sector in which offsets, counts and segments are expressed. */
  SectorShift = 204,
  /** u64, the disk's size in sectors. */
  Sectors = 208,
  /** BlkbackFeature bits. */
  Features = 216,
  /** Segments allowed in an indirect request; 0: none such allowed. */
  MaxIndirect = 220,
  /** Set once the ring was seen broken; nothing is read from it again. */
  Broken = 224,
  Size = 232,
}

export const enum BlkbackFeature {
  Flush = 1,
  Barrier = 2,
  Discard = 4,
  ReadOnly = 8,
}

/**
 * A block front end: a RingContext followed by these. Request ids are 0 … entries − 1; each owns the grant references
 * [FirstRef + id × MaxSegments, + MaxSegments) and one indirect page.
 */
export const enum BlkfrontContext {
  Body = 192,
  /** Address of entry 0 of the guest's own grant table. */
  GrantTable = 196,
  FirstRef = 200,
  /** Segments per request, at most BlkifLimit.SegmentsPerPage. */
  MaxSegments = 204,
  /** The back end's domain. */
  Domain = 208,
  SectorShift = 212,
  /** Guest RAM: linear address of guest-physical 0. */
  RamBase = 216,
  /** Guest-physical address of page 0 of `entries` indirect pages, and the grant reference of it; the rest follow. */
  IndirectPages = 220,
  IndirectRef = 224,
  /** Address of `entries` shadow words: what each id is busy with. */
  Shadow = 228,
  /** Address of `entries` completion words, written by poll: id | BlockStatus << 16. */
  Completions = 232,
  /** What a flush is sent as: BlkifOp.FlushDiskcache or BlkifOp.WriteBarrier. */
  FlushOp = 236,
  Broken = 240,
  Size = 248,
}

/** A shadow word: 0 when the id is free, else in use, the operation expected back and the segments to end. */
export const enum BlkfrontShadow {
  InUse = 0x80000000,
  OperationShift = 16,
  SegmentsMask = 0xffff,
}

/** What a call answers, ORed. */
export const enum RingResult {
  /** The other end asked for an event. */
  Notify = 1,
  /** There is more to consume: call again. */
  More = 2,
  /** The other end broke the ring. */
  Fatal = 4,
  /** The batch holds a barrier: requests before it must have completed, later ones must wait. */
  Barrier = 8,
  /** A request was refused and carries a status; it is not on the ring. */
  Refused = 16,
}

/** Request record, transport-private fields (RequestField.Private0 …). */
export const enum BlkifRecord {
  /** u64: the guest's id. */
  Id = 36,
  /** The operation to answer with. */
  Operation = 44,
  /** 1: no response of its own; a failure is passed on to the next record. */
  Linked = 48,
}
