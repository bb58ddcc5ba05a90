// Virtual I/O Device (VIRTIO) Version 1.2, OASIS committee specification 01. All fields little-endian, offsets in bytes.
//
//   descriptor table (§2.7.5)      available ring (§2.7.6)          used ring (§2.7.8)
//   size × 16 bytes, 16-aligned    6 + 2 × size, 2-aligned          6 + 8 × size, 4-aligned
//   ┌───────────────────────┐      ┌──────────────────────┐         ┌────────────────────────────┐
//   │ address u64           │      │ flags u16, index u16 │         │ flags u16, index u16       │
//   │ length u32            │      │ ring[size] u16: head │         │ ring[size]: id u32, len u32│
//   │ flags u16, next u16   │      │ used_event u16       │         │ avail_event u16            │
//   └───────────────────────┘      └──────────────────────┘         └────────────────────────────┘
//   indexes run freely modulo 65,536; the slot is the index modulo size

/** §2.7.5. */
export const enum Descriptor {
  Address = 0,
  AddressHigh = 4,
  Length = 8,
  Flags = 12,
  Next = 14,
  Size = 16,
}

/** §2.7.5: flags. */
export const enum DescriptorFlag {
  Next = 1,
  Write = 2,
  Indirect = 4,
}

/** §2.7.6. */
export const enum AvailableRing {
  Flags = 0,
  Index = 2,
  Ring = 4,
  /** Flags, index and used_event. */
  Overhead = 6,
  // biome-ignore lint/suspicious/noDuplicateEnumValues: a size beside offsets
  EntrySize = 2,
}

/** §2.7.6.1: the driver asks for no interrupt; used only without event indexes. */
export const enum AvailableFlag {
  NoInterrupt = 1,
}

/** §2.7.8. */
export const enum UsedRing {
  Flags = 0,
  Index = 2,
  Ring = 4,
  /** Flags, index and avail_event. */
  Overhead = 6,
  EntrySize = 8,
}

/** §2.7.10: the device asks for no notification; used only without event indexes. */
export const enum UsedFlag {
  NoNotify = 1,
}

/** §2.1: device status. */
export const enum DeviceStatus {
  Acknowledge = 1,
  Driver = 2,
  DriverOk = 4,
  FeaturesOk = 8,
  NeedsReset = 64,
  Failed = 128,
}

/** Feature bit numbers: §5.2.3 below 24, §6 from there on. */
export const enum Feature {
  BlkSegMax = 2,
  BlkReadOnly = 5,
  BlkBlockSize = 6,
  BlkFlush = 9,
  BlkConfigWce = 11,
  BlkDiscard = 13,
  BlkWriteZeroes = 14,
  IndirectDescriptors = 28,
  EventIndex = 29,
  Version1 = 32,
}

/** §4.2.2: virtio-mmio registers, version 2. */
export const enum Mmio {
  Magic = 0x000,
  Version = 0x004,
  DeviceId = 0x008,
  VendorId = 0x00c,
  DeviceFeatures = 0x010,
  DeviceFeaturesSelect = 0x014,
  DriverFeatures = 0x020,
  DriverFeaturesSelect = 0x024,
  QueueSelect = 0x030,
  QueueSizeMax = 0x034,
  QueueSize = 0x038,
  QueueReady = 0x044,
  QueueNotify = 0x050,
  InterruptStatus = 0x060,
  InterruptAcknowledge = 0x064,
  Status = 0x070,
  QueueDescriptorsLow = 0x080,
  QueueDescriptorsHigh = 0x084,
  QueueDriverLow = 0x090,
  QueueDriverHigh = 0x094,
  QueueDeviceLow = 0x0a0,
  QueueDeviceHigh = 0x0a4,
  SharedMemoryLengthLow = 0x0b0,
  SharedMemoryBaseHigh = 0x0bc,
  ConfigGeneration = 0x0fc,
  Config = 0x100,
  WindowSize = 0x200,
}

export const enum MmioValue {
  /** "virt". */
  Magic = 0x74726976,
  Version = 2,
}

/** §4.1.2: where virtio functions are found on a PCI bus. */
export const enum VirtioPciId {
  Vendor = 0x1af4,
  /** Plus the device type. */
  Device = 0x1040,
}

/** §4.1.4: a vendor-specific capability that says where a structure lies. */
export const enum VirtioPciCap {
  Id = 0,
  Length = 2,
  Type = 3,
  Bar = 4,
  Offset = 8,
  StructureLength = 12,
  Size = 16,
  /** §4.1.4.4: of the notification capability. */
  // biome-ignore lint/suspicious/noDuplicateEnumValues: follows the common part
  NotifyMultiplier = 16,
  /** §4.1.4.9: of the configuration access capability. */
  Data = 16,
}

/** §4.1.4: the structures. */
export const enum VirtioPciType {
  Common = 1,
  Notify = 2,
  Isr = 3,
  Device = 4,
  Pci = 5,
}

/** §4.1.4.3: the common configuration structure. */
export const enum PciCommon {
  DeviceFeatureSelect = 0,
  DeviceFeature = 4,
  DriverFeatureSelect = 8,
  DriverFeature = 12,
  /** u16. */
  ConfigVector = 16,
  /** u16. */
  Queues = 18,
  /** u8. */
  Status = 20,
  /** u8. */
  Generation = 21,
  /** From here to QueueNotifyOffset u16. */
  QueueSelect = 22,
  QueueSize = 24,
  QueueVector = 26,
  QueueEnable = 28,
  QueueNotifyOffset = 30,
  QueueDescriptorsLow = 32,
  QueueDescriptorsHigh = 36,
  QueueDriverLow = 40,
  QueueDriverHigh = 44,
  QueueDeviceLow = 48,
  QueueDeviceHigh = 52,
  Size = 56,
}

/** §4.1.5.1.2: no MSI-X vector. */
export const enum VirtioPciVector {
  None = 0xffff,
}

/** §4.2.2 InterruptStatus and §4.1.4.5 ISR status: the same bits. */
export const enum InterruptCause {
  UsedBuffer = 1,
  ConfigurationChange = 2,
}

/** §5. */
export const enum DeviceType {
  None = 0,
  Block = 2,
}

/** §5.2.4: configuration of a block device. */
export const enum BlkConfig {
  /** u64, in sectors of 512 bytes. */
  Capacity = 0,
  SizeMax = 8,
  SegMax = 12,
  BlockSize = 20,
  /** u8: 1 is write-back. */
  Writeback = 32,
  MaxDiscardSectors = 36,
  MaxDiscardSeg = 40,
  /** In sectors. */
  DiscardSectorAlignment = 44,
  MaxWriteZeroesSectors = 48,
  MaxWriteZeroesSeg = 52,
  WriteZeroesMayUnmap = 56,
  Size = 60,
}

/** §5.2.6: what every request starts with. */
export const enum BlkHeader {
  Type = 0,
  Sector = 8,
  Size = 16,
}

/** §5.2.6: one range of a discard or write-zeroes request. */
export const enum BlkRange {
  Sector = 0,
  Sectors = 8,
  Flags = 12,
  Size = 16,
}

export const enum BlkRangeFlag {
  Unmap = 1,
}

/** §5.2.6. */
export const enum BlkType {
  In = 0,
  Out = 1,
  Flush = 4,
  GetId = 8,
  Discard = 11,
  WriteZeroes = 13,
}

/** §5.2.6: the request's last device-writable byte. */
export const enum BlkStatus {
  Ok = 0,
  IoError = 1,
  Unsupported = 2,
}

export const enum BlkLimit {
  /** The unit of every sector field, whatever the block size. */
  Sector = 512,
  /** §5.2.6: bytes of a device's identity string. */
  Identity = 20,
}
