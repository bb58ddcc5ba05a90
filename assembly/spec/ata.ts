// biome-ignore-all lint/suspicious/noDuplicateEnumValues: a register that is read has another name when written
// ATA/ATAPI-6 (T13/1410D) unless another document is named; "BMIDE" is Programming Interface for Bus Master IDE
// Controller, revision 1.0. Values only: what they mean to our device is in assembly/ide and src/host/device/ide.

/** §5.1, and BMIDE §2: registers of one channel, numbered as this package passes them. Reads and writes may differ. */
export const enum AtaRegister {
  Data = 0,
  /** Error when read, Features when written. */
  Error = 1,
  Features = 1,
  Count = 2,
  LbaLow = 3,
  LbaMid = 4,
  LbaHigh = 5,
  Device = 6,
  /** Status when read (and INTRQ falls), Command when written. */
  Status = 7,
  Command = 7,
  /** Alternate Status when read, Device Control when written. */
  AltStatus = 8,
  Control = 8,
  BmCommand = 16,
  BmStatus = 18,
  /** Four bytes: address of the PRD table. */
  BmTable = 20,
}

/** PIIX3 data sheet, §2.3: where the two channels stand in port space, and their interrupt lines. */
export const enum AtaPort {
  PrimaryCommand = 0x1f0,
  PrimaryControl = 0x3f6,
  PrimaryInterrupt = 14,
  SecondaryCommand = 0x170,
  SecondaryControl = 0x376,
  SecondaryInterrupt = 15,
}

/** §7.15. */
export const enum AtaStatus {
  Error = 0x01,
  DataRequest = 0x08,
  /** ATA-3 "drive seek complete"; later drives go on setting it. */
  SeekComplete = 0x10,
  DeviceFault = 0x20,
  Ready = 0x40,
  Busy = 0x80,
}

/** §7.9. */
export const enum AtaError {
  NoMedia = 0x02,
  Abort = 0x04,
  /** "Media change requested". */
  MediaChangeRequest = 0x08,
  IdNotFound = 0x10,
  MediaChanged = 0x20,
  Uncorrectable = 0x40,
  /** An Ultra DMA transfer that arrived damaged. */
  InterfaceCrc = 0x80,
  /** §8.11, table 26: not an error but a diagnostic code. */
  DiagnosticPassed = 0x01,
}

/** §7.8. */
export const enum AtaControl {
  InterruptDisable = 0x02,
  SoftwareReset = 0x04,
  /** "High order byte": read the previous contents of the task file. */
  HighOrder = 0x80,
}

/** §7.7. */
export const enum AtaDevice {
  Head = 0x0f,
  Second = 0x10,
  Lba = 0x40,
  /** Bits 7 and 5, obsolete and always one. */
  Obsolete = 0xa0,
}

/**
 * Annex A, table A.1; ATA-3 for the codes that end in Old or Once, ACS-2 for those that came later, CF+ and CompactFlash
 * 1.4 §6.2 for the Cfa group.
 */
export const enum AtaCommand {
  Nop = 0x00,
  CfaRequestError = 0x03,
  DataSetManagement = 0x06,
  DeviceReset = 0x08,
  Recalibrate = 0x10,
  ReadSectors = 0x20,
  ReadSectorsOnce = 0x21,
  ReadSectorsExt = 0x24,
  ReadDmaExt = 0x25,
  ReadDmaQueuedExt = 0x26,
  ReadNativeMaxExt = 0x27,
  ReadMultipleExt = 0x29,
  ReadLogExt = 0x2f,
  WriteSectors = 0x30,
  WriteSectorsOnce = 0x31,
  WriteSectorsExt = 0x34,
  WriteDmaExt = 0x35,
  WriteDmaQueuedExt = 0x36,
  SetMaxExt = 0x37,
  CfaWriteSectors = 0x38,
  WriteMultipleExt = 0x39,
  WriteVerify = 0x3c,
  WriteDmaFuaExt = 0x3d,
  WriteLogExt = 0x3f,
  ReadVerify = 0x40,
  ReadVerifyOnce = 0x41,
  ReadVerifyExt = 0x42,
  WriteUncorrectableExt = 0x45,
  ReadLogDmaExt = 0x47,
  WriteLogDmaExt = 0x57,
  Seek = 0x70,
  CfaTranslateSector = 0x87,
  ExecuteDiagnostic = 0x90,
  InitializeParameters = 0x91,
  StandbyImmediateOld = 0x94,
  IdleImmediateOld = 0x95,
  StandbyOld = 0x96,
  IdleOld = 0x97,
  CheckPowerOld = 0x98,
  SleepOld = 0x99,
  Packet = 0xa0,
  IdentifyPacket = 0xa1,
  Service = 0xa2,
  Smart = 0xb0,
  DeviceConfiguration = 0xb1,
  CfaMetadata = 0xb8,
  CfaErase = 0xc0,
  ReadMultiple = 0xc4,
  WriteMultiple = 0xc5,
  SetMultiple = 0xc6,
  ReadDmaQueued = 0xc7,
  ReadDma = 0xc8,
  ReadDmaOnce = 0xc9,
  WriteDma = 0xca,
  WriteDmaOnce = 0xcb,
  WriteDmaQueued = 0xcc,
  CfaWriteMultiple = 0xcd,
  WriteMultipleFuaExt = 0xce,
  GetMediaStatus = 0xda,
  MediaLock = 0xde,
  MediaUnlock = 0xdf,
  StandbyImmediate = 0xe0,
  IdleImmediate = 0xe1,
  Standby = 0xe2,
  Idle = 0xe3,
  ReadBuffer = 0xe4,
  CheckPower = 0xe5,
  Sleep = 0xe6,
  FlushCache = 0xe7,
  WriteBuffer = 0xe8,
  ReadBufferDma = 0xe9,
  FlushCacheExt = 0xea,
  WriteBufferDma = 0xeb,
  Identify = 0xec,
  MediaEject = 0xed,
  SetFeatures = 0xef,
  IbmSenseCondition = 0xf0,
  SecuritySetPassword = 0xf1,
  SecurityUnlock = 0xf2,
  SecurityErasePrepare = 0xf3,
  SecurityEraseUnit = 0xf4,
  SecurityFreezeLock = 0xf5,
  SecurityDisablePassword = 0xf6,
  ReadNativeMax = 0xf8,
  SetMax = 0xf9,
}

/** §8.46: subcommands of SET FEATURES, in the Features register. */
export const enum AtaFeature {
  EnableBytePort = 0x01,
  EnableWriteCache = 0x02,
  SetTransferMode = 0x03,
  EnablePowerManagement = 0x05,
  EnableAcoustic = 0x42,
  DisableReadAhead = 0x55,
  KeepOnReset = 0x66,
  /** CF+ and CompactFlash 1.4, table 42: accepted for compatibility. */
  CfaNop67 = 0x67,
  CfaNop69 = 0x69,
  DisableBytePort = 0x81,
  DisableWriteCache = 0x82,
  DisablePowerManagement = 0x85,
  CfaNop96 = 0x96,
  CfaSourceCurrent = 0x9a,
  EnableReadAhead = 0xaa,
  DisableAcoustic = 0xc2,
  RevertOnReset = 0xcc,
}

/** §8.47: subcommands of SET MAX. */
export const enum AtaSetMax {
  Address = 0,
  SetPassword = 1,
  Lock = 2,
  Unlock = 3,
  Freeze = 4,
}

/** §8.51: subcommands of SMART, in the Features register; the key that LBA mid and high must hold. */
export const enum AtaSmart {
  ReadData = 0xd0,
  /** ATA-3; obsolete since. */
  ReadThresholds = 0xd1,
  Autosave = 0xd2,
  SaveAttributes = 0xd3,
  Offline = 0xd4,
  ReadLog = 0xd5,
  WriteLog = 0xd6,
  Enable = 0xd8,
  Disable = 0xd9,
  ReturnStatus = 0xda,
  AutoOffline = 0xdb,
  Key = 0xc24f,
  /** What RETURN STATUS leaves there when a threshold has been exceeded. */
  Exceeded = 0x2cf4,
}

/** §8.8: subcommands of DEVICE CONFIGURATION. */
export const enum AtaConfiguration {
  Restore = 0xc0,
  FreezeLock = 0xc1,
  Identify = 0xc2,
  Set = 0xc3,
}

/** §8.8, word 7 of DEVICE CONFIGURATION IDENTIFY: what a drive can be made to hide. */
export const enum AtaConfigurable {
  Smart = 0x0001,
  SelfTest = 0x0002,
  ErrorLog = 0x0004,
  Security = 0x0008,
  Acoustic = 0x0040,
  ProtectedArea = 0x0080,
  Ext = 0x0100,
}

/** Log addresses (READ LOG EXT, §8.29, and ATA8-ACS). */
export const enum AtaLog {
  Directory = 0x00,
  /** SMART only. */
  SummaryErrors = 0x01,
  /** General purpose only. */
  ExtendedErrors = 0x03,
  /** SMART only. */
  SelfTest = 0x06,
  /** General purpose only. */
  ExtendedSelfTest = 0x07,
  HostFirst = 0x80,
  HostLast = 0x9f,
}

/** §8.46, set transfer mode: upper five bits of the transfer mode; the lower three are the mode's number. */
export const enum AtaTransfer {
  PioDefault = 0x00,
  PioFlow = 0x08,
  SingleWordDma = 0x10,
  MultiWordDma = 0x20,
  UltraDma = 0x40,
  Kind = 0xf8,
  Mode = 0x07,
}

/** §9.12: what a reset or a diagnostic leaves in LBA mid (low byte) and high (high byte). */
export const enum AtaSignature {
  Disk = 0x0000,
  Packet = 0xeb14,
  /** What this package leaves for a drive that is not there. */
  None = 0xffff,
}

/** §8.15: words of the IDENTIFY DEVICE data. */
export const enum AtaIdentify {
  Configuration = 0,
  Cylinders = 1,
  Heads = 3,
  SectorsPerTrack = 6,
  Serial = 10,
  Firmware = 23,
  Model = 27,
  MaximumMultiple = 47,
  Capabilities = 49,
  PioTiming = 51,
  DmaTiming = 52,
  ValidWords = 53,
  CurrentCylinders = 54,
  CurrentHeads = 55,
  CurrentSectorsPerTrack = 56,
  CurrentCapacity = 57,
  CurrentMultiple = 59,
  Capacity28 = 60,
  SingleWordDma = 62,
  MultiWordDma = 63,
  PioModes = 64,
  MinimumDmaCycle = 65,
  RecommendedDmaCycle = 66,
  MinimumPioCycle = 67,
  MinimumPioCycleFlow = 68,
  MajorVersion = 80,
  MinorVersion = 81,
  Supported82 = 82,
  Supported83 = 83,
  Supported84 = 84,
  Enabled85 = 85,
  Enabled86 = 86,
  Enabled87 = 87,
  UltraDma = 88,
  SecurityEraseTime = 89,
  EnhancedEraseTime = 90,
  PowerManagement = 91,
  MasterRevision = 92,
  HardwareReset = 93,
  Acoustic = 94,
  Capacity48 = 100,
  /** ACS-2: blocks of ranges that one DATA SET MANAGEMENT may have. */
  TrimBlocks = 105,
  SectorSize = 106,
  WorldWideName = 108,
  LogicalSectorWords = 117,
  Supported119 = 119,
  Enabled120 = 120,
  Security = 128,
  /** CF+ and CompactFlash 1.4: power mode 1. */
  CfaPower = 160,
  /** ACS-2. */
  Additional = 69,
  DataSetManagement = 169,
  RotationRate = 217,
  Integrity = 255,
}

/** Interrupt reason: the Count register while a packet command runs. */
export const enum AtaReason {
  /** C/D: a command packet, or the status, rather than data. */
  Command = 0x01,
  /** I/O: to the host. */
  ToHost = 0x02,
}

/** BMIDE §2.1. */
export const enum BmCommand {
  Start = 0x01,
  /** Direction: one is device to memory. */
  ToMemory = 0x08,
  Writable = 0x09,
}

/** BMIDE §2.2. */
export const enum BmStatus {
  Active = 0x01,
  Error = 0x02,
  Interrupt = 0x04,
  /** Bits the firmware sets for the operating system's benefit: drive 0 and 1 are DMA capable. */
  Capable = 0x60,
}

/** BMIDE §1.2: a physical region descriptor is 8 bytes; a table has at most 512. */
export const enum Prd {
  Size = 8,
  Entries = 512,
  /** Byte count: 16 bits, bit 0 ignored, 0 means 64 KiB. */
  Count = 0xfffe,
  EndOfTable = 0x80000000,
}
