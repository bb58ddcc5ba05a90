// PCI Local Bus Specification 3.0, chapter 6: type 00h configuration header. Offsets in bytes.

export const enum PciConfig {
  VendorId = 0x00,
  DeviceId = 0x02,
  Command = 0x04,
  Status = 0x06,
  RevisionId = 0x08,
  ClassCode = 0x09,
  CacheLineSize = 0x0c,
  LatencyTimer = 0x0d,
  HeaderType = 0x0e,
  Bar0 = 0x10,
  SubsystemVendorId = 0x2c,
  SubsystemId = 0x2e,
  ExpansionRom = 0x30,
  CapabilitiesPointer = 0x34,
  InterruptLine = 0x3c,
  InterruptPin = 0x3d,
}

/** §6.2.2. */
export const enum PciCommand {
  IoSpace = 0x0001,
  MemorySpace = 0x0002,
  BusMaster = 0x0004,
  /** The bits this bus lets a guest change: the three above, SERR# and interrupt disable. */
  Writable = 0x0507,
  InterruptDisable = 0x0400,
}

/** §6.2.3. */
export const enum PciStatus {
  Interrupt = 0x0008,
  CapabilitiesList = 0x0010,
}

/** Appendix H: capability identifiers. */
export const enum PciCapability {
  Vendor = 0x09,
}

/** §6.2.5.1: the low bits of a base address register. */
export const enum PciBar {
  Io = 1,
  IoFlags = 3,
  MemoryFlags = 15,
}

/** §3.2.2.3.2: configuration mechanism #1. */
export const enum PciPort {
  Address = 0xcf8,
  Data = 0xcfc,
}
