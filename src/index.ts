/** Paravane: virtual disks and devices for virtual machines that run in JavaScript. Runs in Node and in browsers. */
export { type Block, BlockRequest, Op, Status } from "./core/block.ts";
export { type ErrorCode, type ErrorContext, ParavaneError } from "./core/error.ts";
export type { Later } from "./core/flow.ts";
export type {
  AmendOptions,
  BitmapInfo,
  CheckReport,
  Decompress,
  NewFiles,
  NewParent,
  Packing,
  ParentReference,
  Problem,
  SnapshotInfo,
} from "./core/format.ts";
export type { KeySlotInfo } from "./core/keys.ts";
export type {
  AddressSpace,
  Clock,
  Device,
  GuestMemory,
  InterruptLine,
  IoBar,
  Machine,
  MemoryBar,
  MmioDevice,
  PciBus,
  PciCapability,
  PciFunction,
  PciFunctionOptions,
  PciRegisters,
  PortDevice,
  PortStream,
  Release,
  Width,
} from "./core/machine.ts";
export type { HashWasm, KeyDerivation, Passphrase, Unlocking } from "./core/secret.ts";
export { SegmentList } from "./core/segments.ts";
export type { Store } from "./core/store.ts";
export { discard, flush, readBytes, writeBytes, writeZeroes } from "./host/block/bytes.ts";
export { denyAll, type OpenedFile, type OpenGate, type OpenRequest } from "./host/block/gate.ts";
export { type EncryptBlockOptions, encryptBlock, type UnlockBlockOptions, unlockBlock } from "./host/block/luks.ts";
export { type CreateDiskOptions, createDisk, type Disk, type OpenDiskOptions, openDisk } from "./host/block/open.ts";
export { type CreateOverlayOptions, createOverlay, type OverlayOptions, overlay } from "./host/block/overlay.ts";
export type { Place } from "./host/block/places.ts";
export { attachBlkback, type Blkback, type BlkbackOptions } from "./host/device/blkback.ts";
export type { ErrorPolicy, IdeDriveOptions, TransferModes } from "./host/device/ide/ata/options.ts";
export type { Cartridge } from "./host/device/ide/ata/removable.ts";
export type { CdDriveOptions, Tray } from "./host/device/ide/atapi/options.ts";
export { attachIde, type IdeController, type IdeDrive, type IdeOptions } from "./host/device/ide/controller.ts";
export type { PacketAnswer, PacketDevice, Plain, ResetKind } from "./host/device/ide/device.ts";
export type { IdeState } from "./host/device/ide/save.ts";
export {
  attachPvscsi,
  type PvscsiDevice,
  type PvscsiDisk,
  type PvscsiOptions,
} from "./host/device/pvscsi/attach.ts";
export type { PvscsiState } from "./host/device/pvscsi/save.ts";
export type { ScsiDiskOptions } from "./host/device/scsi/disk.ts";
export {
  attachVirtioBlk,
  type VirtioBlkDevice,
  type VirtioBlkOptions,
  type VirtioState,
} from "./host/device/virtio/attach.ts";
export type { VirtioMmioOptions } from "./host/device/virtio/virtio-mmio.ts";
export type { VirtioPciOptions } from "./host/device/virtio/virtio-pci.ts";
export { type FaultCause, type FaultRule, type FaultyBlock, withFaults } from "./host/filter/fault.ts";
export { amendDisk } from "./host/image/amend.ts";
export { type BackupOptions, backupDisk } from "./host/image/backup.ts";
export { type BenchOptions, type BenchReport, benchDisk } from "./host/image/bench.ts";
export {
  type BitmapAction,
  type BitmapExtent,
  bitmapExtents,
  changeBitmaps,
  copyBitmaps,
  listBitmaps,
} from "./host/image/bitmap.ts";
export { type CheckOptions, checkImage, type ImageCheck, type ImageRepair, repairImage } from "./host/image/check.ts";
export { type CommitOptions, type CommitReport, commitDisk } from "./host/image/commit.ts";
export { type CompareOptions, type CompareReport, compareDisks } from "./host/image/compare.ts";
export {
  compressPool,
  type PackAnswer,
  type PackOrder,
  type PackWorker,
  serveCompression,
} from "./host/image/compress-pool.ts";
export { type CopyOptions, type CopyReport, copyDisk } from "./host/image/copy.ts";
export { type CreateImageOptions, createImage } from "./host/image/create.ts";
export { discardChanges } from "./host/image/discard.ts";
export { chainOf, type ImageInfo, imageInfo } from "./host/image/info.ts";
export { type AddKeyOptions, addKey, type EraseKeyOptions, eraseKey, listKeys } from "./host/image/keys.ts";
export { type MapOptions, type MapRun, mapDisk } from "./host/image/map.ts";
export { type Measured, type MeasureOptions, measureImage } from "./host/image/measure.ts";
export { type Compress, type PackOptions, packDisk, packingOf } from "./host/image/pack.ts";
export { type RebaseOptions, type RebaseReport, rebaseDisk } from "./host/image/rebase.ts";
export { fillDisk, type ResizeOptions, resizeDisk } from "./host/image/resize.ts";
export { salvage } from "./host/image/salvage.ts";
export { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "./host/image/snapshot.ts";
export type { TaskOptions } from "./host/image/task.ts";
export { webCompressor } from "./host/image/web-compressor.ts";
export { type CueOptions, openCue } from "./host/media/cue/open.ts";
export type { Disc, Session, Track } from "./host/media/disc.ts";
export { type CdOptions, cdFromBlock } from "./host/media/image.ts";
export type { SectorForm } from "./host/media/sector.ts";
export { BlobStore, type BlobStoreOptions } from "./host/store/blob.ts";
export { HttpStore, type HttpStoreOptions } from "./host/store/http.ts";
export { MemoryStore } from "./host/store/memory.ts";
export { type OpfsOpenOptions, OpfsStore, type OpfsStoreOptions, type SyncAccessHandle } from "./host/store/opfs.ts";
export type { AtaRegisters } from "./hypervisor/ata-registers.ts";
export { Hypervisor } from "./hypervisor/hypervisor.ts";
export { LabMachine, type MachineOptions } from "./hypervisor/machine.ts";
export type { XenMachine } from "./hypervisor/xen/domain.ts";
