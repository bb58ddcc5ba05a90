// SCSI commands of disks: SPC-4 is T10/1731-D, SBC-3 is T10/BSR INCITS 514, SAM-5 is T10/BSR INCITS 515. Clauses are cited by
// their titles. Sense keys and the additional sense codes that drives of all kinds share are in mmc.ts. Values only: what they
// do is in src/host/device/scsi.

/** Operation codes; each stands in the clause of that name. */
export const enum ScsiOp {
  /** SPC-4. */
  TestUnitReady = 0x00,
  RequestSense = 0x03,
  /** SBC-3. */
  Read6 = 0x08,
  Write6 = 0x0a,
  /** SPC-4. */
  Inquiry = 0x12,
  ModeSense6 = 0x1a,
  /** SBC-3. */
  StartStopUnit = 0x1b,
  ReadCapacity10 = 0x25,
  Read10 = 0x28,
  Write10 = 0x2a,
  Verify10 = 0x2f,
  SynchronizeCache10 = 0x35,
  WriteSame10 = 0x41,
  Unmap = 0x42,
  /** SPC-4. */
  ModeSense10 = 0x5a,
  /** SBC-3. */
  Read16 = 0x88,
  Write16 = 0x8a,
  Verify16 = 0x8f,
  SynchronizeCache16 = 0x91,
  WriteSame16 = 0x93,
  /** SPC-4; READ CAPACITY (16) is one of its service actions. */
  ServiceActionIn16 = 0x9e,
  ReportLuns = 0xa0,
  /** SBC-3. */
  Read12 = 0xa8,
  Write12 = 0xaa,
  Verify12 = 0xaf,
}

/** SBC-3, READ CAPACITY (16) command. */
export const enum ServiceAction {
  ReadCapacity16 = 0x10,
}

/** SAM-5, Status codes. */
export const enum ScsiStatus {
  Good = 0x00,
  CheckCondition = 0x02,
}

/** SPC-4, ASC and ASCQ assignments: those that only disks give. */
export const enum BlockAsc {
  WriteError = 0x0c00,
  LogicalUnitNotSupported = 0x2500,
  WriteProtected = 0x2700,
  SpaceAllocationFailed = 0x2707,
  BusReset = 0x2902,
  BusDeviceReset = 0x2903,
  CapacityChanged = 0x2a09,
  /** INFORMATION UNIT iuCRC ERROR DETECTED. */
  LinkCrc = 0x4703,
}

/** SPC-4 and SBC-3, Vital product data parameters. */
export const enum VpdPage {
  Supported = 0x00,
  SerialNumber = 0x80,
  Identification = 0x83,
  BlockLimits = 0xb0,
  Characteristics = 0xb1,
  Provisioning = 0xb2,
}

/** SPC-4 and SBC-3, Mode parameters. */
export const enum DiskModePage {
  ErrorRecovery = 0x01,
  Caching = 0x08,
  Control = 0x0a,
  All = 0x3f,
}
