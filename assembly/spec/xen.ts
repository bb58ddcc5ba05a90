// Xen's public interface: shared rings, block requests, grants and the xenbus handshake. Read by both compilers.
// Little-endian; sizes in bytes. Headers are those of xen/include/public (Debian: libxen-dev, /usr/include/xen).

/** Pages of ring protocols and grants are always 4 KiB (io/ring.h, XEN_PAGE_SHIFT). */
export const enum XenPage {
  Shift = 12,
  Size = 4096,
}

/** struct __name##_sring, io/ring.h. The entries follow a 64-byte header and run on through further ring pages. */
export const enum Sring {
  ReqProd = 0,
  ReqEvent = 4,
  RspProd = 8,
  RspEvent = 12,
  Entries = 64,
}

/** BLKIF_OP_*, io/blkif.h. */
export const enum BlkifOp {
  Read = 0,
  Write = 1,
  WriteBarrier = 2,
  FlushDiskcache = 3,
  Discard = 5,
  Indirect = 6,
}

/** BLKIF_RSP_*, io/blkif.h. */
export const enum BlkifStatus {
  Okay = 0,
  Error = -1,
  NotSupported = -2,
}

export const enum BlkifLimit {
  /** BLKIF_MAX_SEGMENTS_PER_REQUEST. */
  Segments = 11,
  /** BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST. */
  IndirectPages = 8,
  /** struct blkif_request_segment records a page holds. */
  SegmentsPerPage = 512,
}

/**
 * A ring entry starts with a header word; the id and all that follows stand at an offset that depends on how the
 * guest's ABI aligns 64-bit fields (io/protocols.h): 8 for "x86_64-abi", 4 for "x86_32-abi".
 */
export const enum BlkifHeader {
  Operation = 0,
  /** u8; `flag` of a discard, `indirect_op` of an indirect request. */
  NrSegments = 1,
  /** u16; `nr_segments` of an indirect request. */
  Handle = 2,
}

/** struct blkif_request from the id on, io/blkif.h. */
export const enum BlkifBody {
  Id = 0,
  Sector = 8,
  Segments = 16,
}

/** struct blkif_request_discard from the id on: id and sector, then this. */
export const enum BlkifDiscard {
  Sectors = 16,
}

/** struct blkif_request_indirect from the id on: id and sector, then these. */
export const enum BlkifIndirect {
  Handle = 16,
  Refs = 20,
}

/** sizeof under "x86_64-abi". */
export const enum Blkif64 {
  Body = 8,
  Request = 112,
  Response = 16,
}

/** sizeof under "x86_32-abi". */
export const enum Blkif32 {
  Body = 4,
  Request = 108,
  Response = 12,
}

/** struct blkif_request_segment, io/blkif.h. */
export const enum BlkifSegment {
  Ref = 0,
  FirstSector = 4,
  LastSector = 5,
  Size = 8,
}

/** struct blkif_response, io/blkif.h: the same offsets under both ABIs. */
export const enum BlkifResponse {
  Id = 0,
  Operation = 8,
  Status = 10,
}

/** VDISK_*, io/blkif.h: the `info` node. */
export const enum Vdisk {
  Cdrom = 1,
  Removable = 2,
  ReadOnly = 4,
}

/** struct grant_entry_v1, grant_table.h. */
export const enum GrantEntry {
  Flags = 0,
  Domain = 2,
  Frame = 4,
  Size = 8,
}

/** GTF_*, grant_table.h. */
export const enum Gtf {
  Invalid = 0,
  PermitAccess = 1,
  TypeMask = 3,
  ReadOnly = 4,
  Reading = 8,
  Writing = 16,
  SubPage = 256,
}

/** GNTTAB_NR_RESERVED_ENTRIES, grant_table.h. */
export const enum GrantLimit {
  Reserved = 8,
}

/** enum xenbus_state, io/xenbus.h. */
export const enum XenbusState {
  Unknown = 0,
  Initialising = 1,
  InitWait = 2,
  Initialised = 3,
  Connected = 4,
  Closing = 5,
  Closed = 6,
}

/** Hypercall numbers, xen.h (__HYPERVISOR_*). */
export const enum Hypercall {
  GrantTableOp = 20,
  EventChannelOp = 32,
}
