// VMware's paravirtual SCSI adapter. Its public description is the header of Linux's driver, drivers/scsi/vmw_pvscsi.h; names
// in capitals are of that file, or of FreeBSD's sys/dev/vmware/pvscsi/pvscsi.h where it says so. Read by both compilers.
// Little-endian; offsets and sizes in bytes.
//
//   rings state page            request ring, 1 to 32 pages       completion ring, 1 to 32 pages
//   ┌───────────────────┐       ┌─────────────────────────┐       ┌────────────────────────┐
//   │ request producer  │──────►│ descriptors of 128      │       │ descriptors of 32      │
//   │ request consumer  │       │ bytes: context, data,   │       │ bytes: context, bytes  │
//   │ completion …      │       │ sense, CDB, LUN, target │       │ moved, sense, statuses │
//   │ message …         │       └─────────────────────────┘       └────────────────────────┘
//   └───────────────────┘       message ring, up to 16 pages: descriptors of 128 bytes, targets that come and go

/** PCI identity: vendor, PCI_DEVICE_ID_VMWARE_PVSCSI, and the revision that has a message ring. */
export const enum PvscsiPci {
  Vendor = 0x15ad,
  Device = 0x07c0,
  Revision = 2,
  /** Mass storage, SCSI. */
  ClassCode = 0x010000,
  /** PVSCSI_MEM_SPACE_SIZE: BAR 0. */
  BarSize = 0x8000,
}

/** enum PVSCSIRegOffset. */
export const enum PvscsiRegister {
  Command = 0x0000,
  CommandData = 0x0004,
  CommandStatus = 0x0008,
  InterruptStatus = 0x100c,
  InterruptMask = 0x2010,
  KickOther = 0x3014,
  Debug = 0x3018,
  KickReadWrite = 0x4018,
}

/** enum PVSCSICommands. */
export const enum PvscsiCommand {
  AdapterReset = 1,
  IssueScsi = 2,
  SetupRings = 3,
  ResetBus = 4,
  ResetDevice = 5,
  AbortCommand = 6,
  Config = 7,
  SetupMessageRing = 8,
  DeviceUnplug = 9,
  SetupRequestThreshold = 10,
}

/**
 * What the command status register reads. The header names only the first two; the third is what QEMU answers while words of
 * a command's descriptor are still missing.
 */
export const enum PvscsiCommandStatus {
  Succeeded = 0,
  Failed = 0xffffffff,
  MoreData = 0xfffffffe,
}

/** PVSCSI_INTR_*. */
export const enum PvscsiInterrupt {
  Completion = 1,
  Message = 4,
  All = 15,
}

/** Pages are of this size, whatever the machine. */
export const enum PvscsiPage {
  Shift = 12,
  Size = 4096,
}

export const enum PvscsiLimit {
  /** PVSCSI_SETUP_MSG_RING_MAX_NUM_PAGES. */
  MessagePages = 16,
  /** PVSCSI_SETUP_RINGS_MAX_NUM_PAGES. */
  RingPages = 32,
}

/** Bytes of a CDB that is in the descriptor. */
export const enum PvscsiCdb {
  Size = 16,
}

/** struct PVSCSIRingsState. */
export const enum PvscsiRings {
  RequestProducer = 0,
  RequestConsumer = 4,
  RequestEntriesLog2 = 8,
  CompletionProducer = 12,
  CompletionConsumer = 16,
  CompletionEntriesLog2 = 20,
  RequestThreshold = 24,
  MessageProducer = 128,
  MessageConsumer = 132,
  MessageEntriesLog2 = 136,
}

/** struct PVSCSIRingReqDesc. */
export const enum PvscsiRequest {
  /** u64, the guest's own. */
  Context = 0,
  /** u64, guest-physical: of the data, or of the first element of a list of it. */
  DataAddress = 8,
  /** u64. */
  DataLength = 16,
  /** u64, guest-physical. */
  SenseAddress = 24,
  SenseLength = 32,
  Flags = 36,
  Cdb = 40,
  /** u8, then eight bytes of LUN, tag, bus, target and virtual processor. */
  CdbLength = 56,
  Lun = 57,
  Tag = 65,
  Bus = 66,
  Target = 67,
  Size = 128,
}

/** PVSCSI_FLAG_CMD_*. */
export const enum PvscsiFlag {
  List = 1,
  OutOfBandCdb = 2,
  None = 4,
  ToHost = 8,
  ToDevice = 16,
}

/** struct PVSCSISGElement. */
export const enum PvscsiElement {
  /** u64, guest-physical. */
  Address = 0,
  Length = 8,
  Flags = 12,
  Size = 16,
}

/** PVSCSI_SGE_FLAG_CHAIN_ELEMENT (its value is in VMware's pvscsi_defs.h): the address is that of further elements. */
export const enum PvscsiElementFlag {
  Chain = 1,
}

/** struct PVSCSIRingCmpDesc. */
export const enum PvscsiCompletion {
  /** u64. */
  Context = 0,
  /** u64, bytes moved. */
  DataLength = 8,
  SenseLength = 16,
  /** u16, HostStatus. */
  HostStatus = 20,
  /** u16, the status byte of SCSI. */
  ScsiStatus = 22,
  /** Eight bytes that should be zero. */
  Padding = 24,
  Size = 32,
}

/** enum HostBusAdapterStatus: those that this adapter gives. */
export const enum HostStatus {
  Success = 0x00,
  /** BTSTAT_SELTIMEO: nothing answers at that target. */
  SelectionTimeout = 0x11,
  /** BTSTAT_DATARUN: the command moves more than there is room for. */
  DataRun = 0x12,
  /** BTSTAT_INVPARAM: descriptor or segment list make no sense. */
  InvalidParameter = 0x1a,
  /** BTSTAT_BADMSG: data would go the other way than the descriptor says. */
  BadMessage = 0x1d,
  /** BTSTAT_BUSRESET. */
  BusReset = 0x25,
  /** BTSTAT_ABORTQUEUE. */
  Aborted = 0x26,
}

/** struct PVSCSIMsgDescDevStatusChanged and enum PVSCSIMsgType. */
export const enum PvscsiMessage {
  Type = 0,
  Bus = 4,
  Target = 8,
  Size = 128,
}
export const enum PvscsiMessageType {
  Added = 0,
  Removed = 1,
}

/** struct PVSCSICmdDescSetupRings. */
export const enum PvscsiSetupRings {
  RequestPages = 0,
  CompletionPages = 4,
  /** u64 each, page numbers. */
  State = 8,
  Requests = 16,
  Completions = 272,
  Size = 528,
}

/** struct PVSCSICmdDescSetupMsgRing. */
export const enum PvscsiSetupMessages {
  Pages = 0,
  Ring = 8,
  Size = 136,
}

/** struct PVSCSICmdDescAbortCmd, struct PVSCSICmdDescResetDevice. */
export const enum PvscsiAbort {
  Context = 0,
  Target = 8,
  Size = 16,
}
export const enum PvscsiResetDevice {
  Target = 0,
  Lun = 4,
  Size = 12,
}

/** struct PVSCSICmdDescConfigCmd. */
export const enum PvscsiConfig {
  /** u64, guest-physical: where the page goes (`cmpAddr`). */
  Address = 0,
  /** u64: what the page is of, PVSCSIConfigPageAddressType in its upper half. */
  PageAddress = 8,
  PageNumber = 16,
  Size = 24,
}

/** enum PVSCSIConfigPageType, enum PVSCSIConfigPageAddressType. */
export const enum PvscsiConfigPage {
  Controller = 0x1958,
  ControllerAddress = 0x2120,
}

/** struct PVSCSIConfigPageController: a header of 16 bytes, then these. Strings are of 16-bit characters. */
export const enum PvscsiControllerPage {
  PageNumber = 0,
  Words = 4,
  HostStatus = 6,
  ScsiStatus = 8,
  /** u64. */
  Name = 16,
  Manufacturer = 24,
  SerialNumber = 152,
  OptionRom = 280,
  Hardware = 344,
  Firmware = 408,
  /** Targets that there may be. */
  Phys = 472,
  Size = 480,
}
