// The state of one IDE channel: everything that a save must keep, laid out by the host at an address of its choice.
// Read by both compilers. Fields are little-endian u32 unless said otherwise.
//
//   ctx ┌───────────────┬──────────────────────────────────────────────────────────────┐
//       │ channel       │ bus master, interrupt line, what the channel is doing        │  IdeField
//       ├───────────────┼──────────────────────────────────────────────────────────────┤
//       │ drive 0, 1    │ task file, HOB bytes, settings, geometry                     │  DriveField
//       ├───────────────┼──────────────────────────────────────────────────────────────┤
//       │ command table │ 256 × u32: what each command code is (written by ideReset)   │  CommandBits
//       ├───────────────┼──────────────────────────────────────────────────────────────┤
//       │ buffer        │ one DRQ block of PIO data, 64 KiB at most                    │
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
  /** Units not moved yet: sectors for media access, bytes for a DMA that the device asks for. */
  Remaining = 72,
  /** Sectors in one DRQ block. */
  Block = 76,

  /** Units on their way now. */
  Moving = 80,
  /** Offsets into the buffer: next byte, end of the block. */
  BufferAt = 84,
  BufferEnd = 88,
  /** PrdOutcome of the DMA on its way. */
  Outcome = 92,
  /** Bytes of a unit. */
  Unit = 96,
  /** The command code. */
  Command = 100,
  /** How often the device has been asked to carry this command on. */
  Step = 104,
  /** 1 when the command ends as soon as the block on offer has been read. */
  Last = 108,
  /** IdeAbort: what to do once nothing is in flight any more. */
  Abort = 112,
  /** What a channel without drives reads as, a byte. */
  Floating = 116,

  Drives = 128,
  Commands = 448,
  Buffer = 1472,
  Size = 67008,
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
  /** Bytes of a logical sector. */
  SectorBytes = 128,
  /** CommandBits: commands with one of these are refused, since the media is locked or 48 bits are not there. */
  Refused = 132,
  /** 1 while SET FEATURES has the data port move bytes (CF+ and CompactFlash 1.4, Set Features). */
  BytePort = 136,
  Size = 160,
}

/** Bits, so that a command can be for several kinds. */
export const enum DriveKind {
  Absent = 0,
  Disk = 1,
  Packet = 2,
  CompactFlash = 4,
}

export const enum IdeLimit {
  SectorBytes = 512,
  /** Sectors in one DRQ block of READ or WRITE MULTIPLE, unless the drive is told or made otherwise. */
  Multiple = 16,
  /** Bytes of one DRQ block. */
  BlockBytes = 65536,
  UltraDma = 5,
  /** Bytes of a command packet. */
  PacketBytes = 12,
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
  /** Move IdeField.Moving units at IdeField.Lba, or flush; then ideFinish. */
  Io = 2,
  /** IdeField.Op is the device's own command: carry it on, then ideFinish. */
  Execute = 4,
  /** Both devices have been reset by software: they forget what they were doing. What is in flight is still answered. */
  Reset = 8,
  /** The same for the selected device alone: DEVICE RESET, or IDLE IMMEDIATE while busy. */
  Abort = 16,
}

/** Why what is in flight is waited for. */
export const enum IdeAbort {
  None = 0,
  DeviceReset = 1,
  IdleImmediate = 2,
}

/**
 * What the host answers with ideFinish. Below 256 a BlockStatus; else one of these, with a value below it. `Quiet` leaves
 * INTRQ alone.
 */
export const enum IdeAnswer {
  /** The command has failed: Error register, and bits to add to Status above it. */
  Error = 0x01000000,
  /** The buffer holds that many bytes for the guest; when they are read the device is asked to carry on. */
  DataIn = 0x02000000,
  /** The same, and the command ends with the last of them, without an interrupt (ATA/ATAPI-6 §9.5). */
  DataInLast = 0x03000000,
  /** The guest is to send that many bytes; then the device is asked to carry on. */
  DataOut = 0x04000000,
  /** That many bytes by DMA: IdeEvent.Io comes when the bus master is started. */
  Dma = 0x05000000,
  /** The command has ended well; Status becomes the value. */
  Done = 0x06000000,
  Kind = 0x0f000000,
  Value = 0x00ffffff,
  Quiet = 0x10000000,
}

/** How a command moves data (ATA/ATAPI-6 §9). */
export const enum IdeProtocol {
  None = 0,
  NonData = 1,
  PioIn = 2,
  PioOut = 3,
  Dma = 4,
  /** The device decides as it carries the command out. */
  Device = 5,
}

/** What a command asks for, whatever its addressing and protocol. Those above Flush are the device's own. */
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
  /** Succeeds and does nothing: seeks. */
  Nothing = 12,
  Power = 13,
  SetMax = 14,
  ReadBuffer = 15,
  WriteBuffer = 16,
  Security = 17,
  Configuration = 18,
  ReadLog = 19,
  WriteLog = 20,
  WriteUncorrectable = 21,
  Smart = 22,
  DataSetManagement = 23,
  CfaRequestError = 24,
  CfaTranslate = 25,
  CfaErase = 26,
  Packet = 27,
  IdentifyPacket = 28,
  DeviceReset = 29,
  Metadata = 30,
  SenseCondition = 31,
  MediaStatus = 32,
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
  /** A packet device answers with its signature, and aborts (ATA/ATAPI-6 §9.12). */
  Signature = 0x4000,
  /** Refused while SECURITY has locked the media (§6.13). */
  Lockable = 0x8000,
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
  /** A reset found no data on its way. */
  None = 5,
}
