// The state of one IDE channel: everything that a save must keep, laid out by the host at an address of its choice.
// Read by both compilers. Fields are little-endian u32 unless said otherwise.
//
//   ctx ┌───────────────┬──────────────────────────────────────────────────────────────┐
//       │ channel       │ bus master, interrupt line, what the channel is doing        │  IdeField
//       ├───────────────┼──────────────────────────────────────────────────────────────┤
//       │ drive 0, 1    │ task file, HOB bytes, settings, geometry, identity strings   │  DriveField
//       ├───────────────┼──────────────────────────────────────────────────────────────┤
//       │ command table │ 256 × u32: what each command code is (written by ideReset)   │  CommandBits
//       ├───────────────┼──────────────────────────────────────────────────────────────┤
//       │ buffer        │ one DRQ block of PIO data                                    │
//       └───────────────┴──────────────────────────────────────────────────────────────┘

export const enum IdeField {
  /** Linear address and size of guest RAM. */
  RamBase = 0,
  RamSize = 4,
  /** Linear address of a request table of one request and Prd.Entries segments. */
  Table = 8,
  /** 0 or 1: the drive that the Device register names. */
  Selected = 12,
  /** Device Control as last written. */
  Control = 16,
  /** 1 while INTRQ reaches the interrupt controller. */
  Line = 20,
  /** IdeEvent bits of the last call. */
  Event = 24,
  /** IdePhase. */
  Phase = 28,
  BmCommand = 32,
  BmStatus = 36,
  BmTable = 40,
  /** 1 from the moment the host is asked for something until its ideFinish. */
  InFlight = 44,

  // The action: what the last command came out as. Written by the decoder, consumed by the execution.
  Op = 48,
  Protocol = 52,
  /** CommandBits of the command. */
  Traits = 56,
  /** AtaError bits that the decoder found, reported when the first data would move. */
  Fault = 60,
  /** u64, sectors: where the next data moves. */
  Lba = 64,
  /** Sectors not moved yet. */
  Remaining = 72,
  /** Sectors in one DRQ block. */
  Block = 76,

  /** Sectors of the block on its way now. */
  Moving = 80,
  /** Offsets into the buffer: next byte, end of the block. */
  BufferAt = 84,
  BufferEnd = 88,
  /** PrdOutcome of the DMA on its way. */
  Outcome = 92,

  Drives = 96,
  Commands = 544,
  Buffer = 1568,
  Size = 9760,
}

export const enum DriveField {
  /** DriveKind. */
  Kind = 0,
  Status = 4,
  Error = 8,
  /** 1 while this drive wants INTRQ. */
  Interrupt = 12,
  /** Eight fields, by AtaRegister; 1 to 6 are in use. */
  Registers = 16,
  /** What those were before the last write. */
  Previous = 48,
  /** u64, sectors. */
  Sectors = 80,
  /** Default translation. */
  Cylinders = 88,
  Heads = 92,
  SectorsPerTrack = 96,
  /** Current translation. */
  CurrentCylinders = 100,
  CurrentHeads = 104,
  CurrentSectorsPerTrack = 108,
  /** SET MULTIPLE; 0 is off. */
  Multiple = 112,
  /** The SET FEATURES transfer mode in force. */
  TransferMode = 116,
  WriteCache = 120,
  ReadAhead = 124,
  /** ASCII, padded with blanks: 20, 8 and 40 bytes. */
  Serial = 128,
  Firmware = 148,
  Model = 156,
  Size = 224,
}

export const enum DriveKind {
  Absent = 0,
  Disk = 1,
}

export const enum IdeLimit {
  SectorBytes = 512,
  /** Sectors in one DRQ block of READ or WRITE MULTIPLE. */
  Multiple = 16,
  UltraDma = 5,
}

export const enum IdePhase {
  Idle = 0,
  /** The host works; BSY. */
  Busy = 1,
  /** The guest reads, or writes, the buffer; DRQ. */
  PioIn = 2,
  PioOut = 3,
  /** A DMA command waits for START, or its data is on its way; DRQ. */
  Dma = 4,
  /** SRST, or a reset that waits for I/O in flight; BSY. */
  Reset = 5,
}

/** What a call leaves for the host to do. */
export const enum IdeEvent {
  /** IdeField.Line has changed. */
  Line = 1,
  /** Move IdeField.Moving sectors at IdeField.Lba, or flush; then ideFinish. */
  Io = 2,
  /** Carry out IdeField.Op, a command without media access; then ideFinish. */
  Execute = 4,
}

/** How a command moves data (ATA/ATAPI-6 §9). */
export const enum IdeProtocol {
  None = 0,
  NonData = 1,
  PioIn = 2,
  PioOut = 3,
  Dma = 4,
}

/** What a command asks for, whatever its addressing and protocol. */
export const enum IdeOp {
  Abort = 0,
  Read = 1,
  Write = 2,
  Verify = 3,
  Flush = 4,
  Identify = 5,
  SetFeatures = 6,
  SetMultiple = 7,
  InitializeParameters = 8,
  ReadNativeMax = 9,
  Diagnostic = 10,
  CheckPower = 11,
  /** Succeeds and does nothing: seeks and power modes. */
  Nothing = 12,
  Count = 13,
}

/** An entry of the command table. */
export const enum CommandBits {
  /** IdeOp. */
  Op = 0x00ff,
  /** IdeProtocol << 8. */
  ProtocolShift = 8,
  Protocol = 0x0700,
  /** 48-bit: count and address are two bytes deep. */
  Ext = 0x0800,
  /** Names sectors by address and count. */
  Addressed = 0x1000,
  /** DRQ blocks of the SET MULTIPLE size. */
  Multiple = 0x2000,
  /** DriveKind << 16: drives that know it. */
  KindShift = 16,
}

/** How a PRD table compares with the transfer (BMIDE §3.1). */
export const enum PrdOutcome {
  Exact = 0,
  /** More memory than data: Active stays set. */
  Long = 1,
  /** Less memory than data: neither Active nor Interrupt. */
  Short = 2,
  /** The table, or memory it names, is outside guest RAM: Error. */
  BadAddress = 3,
  /** The PCI function may not master the bus. */
  NoBusMaster = 4,
}
