// Packet commands of CD and DVD drives: MMC-6 (T10/1836-D) unless another document is named; SPC-3 is T10/1416-D, MMC-3 is
// T10/1363-D, SFF-8020i is revision 2.6, SCSI-2 is X3.131-1994. Clauses are cited by their titles, which are the same in every
// revision. Values only: what they do is in src/host/device/ide/atapi.

/** Operation codes; each stands in the clause of that name, of the document named last before it. */
export const enum PacketOp {
  /** SPC-3. */
  TestUnitReady = 0x00,
  RequestSense = 0x03,
  Inquiry = 0x12,
  ModeSelect6 = 0x15,
  ModeSense6 = 0x1a,
  /** MMC-6. */
  StartStopUnit = 0x1b,
  PreventAllow = 0x1e,
  ReadFormatCapacities = 0x23,
  ReadCapacity = 0x25,
  Read10 = 0x28,
  Seek10 = 0x2b,
  SynchronizeCache = 0x35,
  /** MMC-3. */
  ReadSubChannel = 0x42,
  /** MMC-6. */
  ReadToc = 0x43,
  /** MMC-3. */
  PlayAudio10 = 0x45,
  /** MMC-6. */
  GetConfiguration = 0x46,
  /** MMC-3. */
  PlayAudioMsf = 0x47,
  /** SCSI-2, for CD-ROM devices. */
  PlayAudioTrackIndex = 0x48,
  /** MMC-6. */
  GetEventStatus = 0x4a,
  /** MMC-3. */
  PauseResume = 0x4b,
  StopPlayScan = 0x4e,
  /** MMC-6. */
  ReadDiscInformation = 0x51,
  ReadTrackInformation = 0x52,
  /** SPC-3. */
  ModeSelect10 = 0x55,
  ModeSense10 = 0x5a,
  /** MMC-6. */
  SendKey = 0xa3,
  ReportKey = 0xa4,
  /** MMC-3. */
  PlayAudio12 = 0xa5,
  /** MMC-6. */
  SetReadAhead = 0xa7,
  Read12 = 0xa8,
  ReadDiscStructure = 0xad,
  ReadCdMsf = 0xb9,
  SetCdSpeed = 0xbb,
  MechanismStatus = 0xbd,
  ReadCd = 0xbe,
}

/** SPC-3, sense key descriptions. */
export const enum SenseKey {
  None = 0,
  NotReady = 2,
  MediumError = 3,
  HardwareError = 4,
  IllegalRequest = 5,
  UnitAttention = 6,
  DataProtect = 7,
  AbortedCommand = 0xb,
}

/** SPC-3, ASC and ASCQ assignments, and those of MMC-6: additional sense code in the high byte, its qualifier in the low one. */
export const enum Asc {
  None = 0x0000,
  AudioPlaying = 0x0011,
  AudioPaused = 0x0012,
  AudioCompleted = 0x0013,
  AudioStopped = 0x0014,
  /** LOGICAL UNIT COMMUNICATION CRC ERROR (ULTRA-DMA/32). */
  CommunicationCrc = 0x0803,
  UnrecoveredRead = 0x1100,
  ParameterListLength = 0x1a00,
  InvalidOperation = 0x2000,
  LbaOutOfRange = 0x2100,
  InvalidFieldInCdb = 0x2400,
  InvalidFieldInParameters = 0x2600,
  MediumChanged = 0x2800,
  PowerOnReset = 0x2900,
  CommandSequence = 0x2c00,
  IncompatibleFormat = 0x3002,
  SavingNotSupported = 0x3900,
  MediumNotPresent = 0x3a00,
  MediumNotPresentTrayClosed = 0x3a01,
  MediumNotPresentTrayOpen = 0x3a02,
  InternalTargetFailure = 0x4400,
  RemovalPrevented = 0x5302,
  IllegalModeForTrack = 0x6400,
  KeyNotPresent = 0x6f01,
  RegionPermanent = 0x6f05,
}

/** MMC-6 and MMC-3, mode parameters; SFF-8020i. */
export const enum ModePage {
  ErrorRecovery = 0x01,
  CdDevice = 0x0d,
  AudioControl = 0x0e,
  Capabilities = 0x2a,
  All = 0x3f,
}

/** MMC-6, profile list. */
export const enum Profile {
  None = 0x0000,
  CdRom = 0x0008,
  DvdRom = 0x0010,
}

/** MMC-6, feature list. */
export const enum Feature {
  ProfileList = 0x0000,
  Core = 0x0001,
  Morphing = 0x0002,
  RemovableMedium = 0x0003,
  RandomReadable = 0x0010,
  MultiRead = 0x001d,
  CdRead = 0x001e,
  DvdRead = 0x001f,
  PowerManagement = 0x0100,
  AnalogPlay = 0x0103,
  Timeout = 0x0105,
  RealTimeStreaming = 0x0107,
  SerialNumber = 0x0108,
}

/** MMC-6, GET EVENT STATUS NOTIFICATION: notification classes. */
export const enum EventClass {
  OperationalChange = 1,
  PowerManagement = 2,
  ExternalRequest = 3,
  Media = 4,
  DeviceBusy = 6,
}

/** MMC-6, media events. */
export const enum MediaEvent {
  NoChange = 0,
  EjectRequest = 1,
  NewMedia = 2,
  MediaRemoval = 3,
}

/** MMC-3, READ SUB-CHANNEL: audio status. */
export const enum AudioStatus {
  Playing = 0x11,
  Paused = 0x12,
  Completed = 0x13,
  Stopped = 0x14,
  None = 0x15,
}
