import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { PciBar, PciCapability, PciCommand, PciConfig, PciStatus } from "../../assembly/spec/pci.ts";
import {
  AvailableFlag,
  AvailableRing,
  BlkConfig,
  BlkHeader,
  BlkRange,
  BlkRangeFlag,
  BlkStatus,
  BlkType,
  Descriptor,
  DescriptorFlag,
  DeviceStatus,
  DeviceType,
  Feature,
  InterruptCause,
  Mmio,
  PciCommon,
  UsedFlag,
  UsedRing,
  VirtioPciCap,
  VirtioPciType,
  VirtioPciVector,
} from "../../assembly/spec/virtio.ts";
import { found, peerTest } from "../support/peers.ts";

/** C expression → what our tables say: every offset, size and constant of virtio and PCI that Linux's headers have, too. */
const EXPECTED: Record<string, number> = {
  VIRTIO_PCI_CAP_COMMON_CFG: VirtioPciType.Common,
  VIRTIO_PCI_CAP_NOTIFY_CFG: VirtioPciType.Notify,
  VIRTIO_PCI_CAP_ISR_CFG: VirtioPciType.Isr,
  VIRTIO_PCI_CAP_DEVICE_CFG: VirtioPciType.Device,
  VIRTIO_PCI_CAP_PCI_CFG: VirtioPciType.Pci,
  VIRTIO_PCI_CAP_VNDR: VirtioPciCap.Id,
  VIRTIO_PCI_CAP_LEN: VirtioPciCap.Length,
  VIRTIO_PCI_CAP_CFG_TYPE: VirtioPciCap.Type,
  VIRTIO_PCI_CAP_BAR: VirtioPciCap.Bar,
  VIRTIO_PCI_CAP_OFFSET: VirtioPciCap.Offset,
  VIRTIO_PCI_CAP_LENGTH: VirtioPciCap.StructureLength,
  "sizeof(struct virtio_pci_cap)": VirtioPciCap.Size,
  VIRTIO_PCI_NOTIFY_CAP_MULT: VirtioPciCap.NotifyMultiplier,
  "offsetof(struct virtio_pci_cfg_cap, pci_cfg_data)": VirtioPciCap.Data,
  VIRTIO_PCI_COMMON_DFSELECT: PciCommon.DeviceFeatureSelect,
  VIRTIO_PCI_COMMON_DF: PciCommon.DeviceFeature,
  VIRTIO_PCI_COMMON_GFSELECT: PciCommon.DriverFeatureSelect,
  VIRTIO_PCI_COMMON_GF: PciCommon.DriverFeature,
  VIRTIO_PCI_COMMON_MSIX: PciCommon.ConfigVector,
  VIRTIO_PCI_COMMON_NUMQ: PciCommon.Queues,
  VIRTIO_PCI_COMMON_STATUS: PciCommon.Status,
  VIRTIO_PCI_COMMON_CFGGENERATION: PciCommon.Generation,
  VIRTIO_PCI_COMMON_Q_SELECT: PciCommon.QueueSelect,
  VIRTIO_PCI_COMMON_Q_SIZE: PciCommon.QueueSize,
  VIRTIO_PCI_COMMON_Q_MSIX: PciCommon.QueueVector,
  VIRTIO_PCI_COMMON_Q_ENABLE: PciCommon.QueueEnable,
  VIRTIO_PCI_COMMON_Q_NOFF: PciCommon.QueueNotifyOffset,
  VIRTIO_PCI_COMMON_Q_DESCLO: PciCommon.QueueDescriptorsLow,
  VIRTIO_PCI_COMMON_Q_DESCHI: PciCommon.QueueDescriptorsHigh,
  VIRTIO_PCI_COMMON_Q_AVAILLO: PciCommon.QueueDriverLow,
  VIRTIO_PCI_COMMON_Q_AVAILHI: PciCommon.QueueDriverHigh,
  VIRTIO_PCI_COMMON_Q_USEDLO: PciCommon.QueueDeviceLow,
  VIRTIO_PCI_COMMON_Q_USEDHI: PciCommon.QueueDeviceHigh,
  "sizeof(struct virtio_pci_common_cfg)": PciCommon.Size,
  VIRTIO_MSI_NO_VECTOR: VirtioPciVector.None,
  VIRTIO_PCI_ISR_CONFIG: InterruptCause.ConfigurationChange,

  VIRTIO_CONFIG_S_ACKNOWLEDGE: DeviceStatus.Acknowledge,
  VIRTIO_CONFIG_S_DRIVER: DeviceStatus.Driver,
  VIRTIO_CONFIG_S_DRIVER_OK: DeviceStatus.DriverOk,
  VIRTIO_CONFIG_S_FEATURES_OK: DeviceStatus.FeaturesOk,
  VIRTIO_CONFIG_S_NEEDS_RESET: DeviceStatus.NeedsReset,
  VIRTIO_CONFIG_S_FAILED: DeviceStatus.Failed,
  VIRTIO_F_VERSION_1: Feature.Version1,
  VIRTIO_RING_F_INDIRECT_DESC: Feature.IndirectDescriptors,
  VIRTIO_RING_F_EVENT_IDX: Feature.EventIndex,
  VIRTIO_ID_BLOCK: DeviceType.Block,

  "offsetof(struct vring_desc, addr)": Descriptor.Address,
  "offsetof(struct vring_desc, len)": Descriptor.Length,
  "offsetof(struct vring_desc, flags)": Descriptor.Flags,
  "offsetof(struct vring_desc, next)": Descriptor.Next,
  "sizeof(struct vring_desc)": Descriptor.Size,
  VRING_DESC_F_NEXT: DescriptorFlag.Next,
  VRING_DESC_F_WRITE: DescriptorFlag.Write,
  VRING_DESC_F_INDIRECT: DescriptorFlag.Indirect,
  "offsetof(struct vring_avail, idx)": AvailableRing.Index,
  "offsetof(struct vring_avail, ring)": AvailableRing.Ring,
  VRING_AVAIL_F_NO_INTERRUPT: AvailableFlag.NoInterrupt,
  "offsetof(struct vring_used, idx)": UsedRing.Index,
  "offsetof(struct vring_used, ring)": UsedRing.Ring,
  "sizeof(struct vring_used_elem)": UsedRing.EntrySize,
  VRING_USED_F_NO_NOTIFY: UsedFlag.NoNotify,

  VIRTIO_BLK_F_SEG_MAX: Feature.BlkSegMax,
  VIRTIO_BLK_F_RO: Feature.BlkReadOnly,
  VIRTIO_BLK_F_BLK_SIZE: Feature.BlkBlockSize,
  VIRTIO_BLK_F_FLUSH: Feature.BlkFlush,
  VIRTIO_BLK_F_CONFIG_WCE: Feature.BlkConfigWce,
  VIRTIO_BLK_F_DISCARD: Feature.BlkDiscard,
  VIRTIO_BLK_F_WRITE_ZEROES: Feature.BlkWriteZeroes,
  VIRTIO_BLK_T_IN: BlkType.In,
  VIRTIO_BLK_T_OUT: BlkType.Out,
  VIRTIO_BLK_T_FLUSH: BlkType.Flush,
  VIRTIO_BLK_T_GET_ID: BlkType.GetId,
  VIRTIO_BLK_T_DISCARD: BlkType.Discard,
  VIRTIO_BLK_T_WRITE_ZEROES: BlkType.WriteZeroes,
  VIRTIO_BLK_S_OK: BlkStatus.Ok,
  VIRTIO_BLK_S_IOERR: BlkStatus.IoError,
  VIRTIO_BLK_S_UNSUPP: BlkStatus.Unsupported,
  VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP: BlkRangeFlag.Unmap,
  "offsetof(struct virtio_blk_config, capacity)": BlkConfig.Capacity,
  "offsetof(struct virtio_blk_config, size_max)": BlkConfig.SizeMax,
  "offsetof(struct virtio_blk_config, seg_max)": BlkConfig.SegMax,
  "offsetof(struct virtio_blk_config, blk_size)": BlkConfig.BlockSize,
  "offsetof(struct virtio_blk_config, wce)": BlkConfig.Writeback,
  "offsetof(struct virtio_blk_config, max_discard_sectors)": BlkConfig.MaxDiscardSectors,
  "offsetof(struct virtio_blk_config, max_discard_seg)": BlkConfig.MaxDiscardSeg,
  "offsetof(struct virtio_blk_config, discard_sector_alignment)": BlkConfig.DiscardSectorAlignment,
  "offsetof(struct virtio_blk_config, max_write_zeroes_sectors)": BlkConfig.MaxWriteZeroesSectors,
  "offsetof(struct virtio_blk_config, max_write_zeroes_seg)": BlkConfig.MaxWriteZeroesSeg,
  "offsetof(struct virtio_blk_config, write_zeroes_may_unmap)": BlkConfig.WriteZeroesMayUnmap,
  "offsetof(struct virtio_blk_outhdr, sector)": BlkHeader.Sector,
  "sizeof(struct virtio_blk_outhdr)": BlkHeader.Size,
  "offsetof(struct virtio_blk_discard_write_zeroes, num_sectors)": BlkRange.Sectors,
  "offsetof(struct virtio_blk_discard_write_zeroes, flags)": BlkRange.Flags,
  "sizeof(struct virtio_blk_discard_write_zeroes)": BlkRange.Size,

  VIRTIO_MMIO_MAGIC_VALUE: Mmio.Magic,
  VIRTIO_MMIO_VERSION: Mmio.Version,
  VIRTIO_MMIO_DEVICE_ID: Mmio.DeviceId,
  VIRTIO_MMIO_VENDOR_ID: Mmio.VendorId,
  VIRTIO_MMIO_DEVICE_FEATURES: Mmio.DeviceFeatures,
  VIRTIO_MMIO_DEVICE_FEATURES_SEL: Mmio.DeviceFeaturesSelect,
  VIRTIO_MMIO_DRIVER_FEATURES: Mmio.DriverFeatures,
  VIRTIO_MMIO_DRIVER_FEATURES_SEL: Mmio.DriverFeaturesSelect,
  VIRTIO_MMIO_QUEUE_SEL: Mmio.QueueSelect,
  VIRTIO_MMIO_QUEUE_NUM_MAX: Mmio.QueueSizeMax,
  VIRTIO_MMIO_QUEUE_NUM: Mmio.QueueSize,
  VIRTIO_MMIO_QUEUE_READY: Mmio.QueueReady,
  VIRTIO_MMIO_QUEUE_NOTIFY: Mmio.QueueNotify,
  VIRTIO_MMIO_INTERRUPT_STATUS: Mmio.InterruptStatus,
  VIRTIO_MMIO_INTERRUPT_ACK: Mmio.InterruptAcknowledge,
  VIRTIO_MMIO_STATUS: Mmio.Status,
  VIRTIO_MMIO_QUEUE_DESC_LOW: Mmio.QueueDescriptorsLow,
  VIRTIO_MMIO_QUEUE_DESC_HIGH: Mmio.QueueDescriptorsHigh,
  VIRTIO_MMIO_QUEUE_AVAIL_LOW: Mmio.QueueDriverLow,
  VIRTIO_MMIO_QUEUE_AVAIL_HIGH: Mmio.QueueDriverHigh,
  VIRTIO_MMIO_QUEUE_USED_LOW: Mmio.QueueDeviceLow,
  VIRTIO_MMIO_QUEUE_USED_HIGH: Mmio.QueueDeviceHigh,
  VIRTIO_MMIO_SHM_LEN_LOW: Mmio.SharedMemoryLengthLow,
  VIRTIO_MMIO_SHM_BASE_HIGH: Mmio.SharedMemoryBaseHigh,
  VIRTIO_MMIO_CONFIG_GENERATION: Mmio.ConfigGeneration,
  VIRTIO_MMIO_CONFIG: Mmio.Config,
  VIRTIO_MMIO_INT_VRING: InterruptCause.UsedBuffer,

  PCI_VENDOR_ID: PciConfig.VendorId,
  PCI_DEVICE_ID: PciConfig.DeviceId,
  PCI_COMMAND: PciConfig.Command,
  PCI_STATUS: PciConfig.Status,
  PCI_REVISION_ID: PciConfig.RevisionId,
  PCI_CLASS_PROG: PciConfig.ClassCode,
  PCI_CACHE_LINE_SIZE: PciConfig.CacheLineSize,
  PCI_LATENCY_TIMER: PciConfig.LatencyTimer,
  PCI_HEADER_TYPE: PciConfig.HeaderType,
  PCI_BASE_ADDRESS_0: PciConfig.Bar0,
  PCI_SUBSYSTEM_VENDOR_ID: PciConfig.SubsystemVendorId,
  PCI_SUBSYSTEM_ID: PciConfig.SubsystemId,
  PCI_ROM_ADDRESS: PciConfig.ExpansionRom,
  PCI_CAPABILITY_LIST: PciConfig.CapabilitiesPointer,
  PCI_INTERRUPT_LINE: PciConfig.InterruptLine,
  PCI_INTERRUPT_PIN: PciConfig.InterruptPin,
  PCI_COMMAND_IO: PciCommand.IoSpace,
  PCI_COMMAND_MEMORY: PciCommand.MemorySpace,
  PCI_COMMAND_MASTER: PciCommand.BusMaster,
  PCI_COMMAND_INTX_DISABLE: PciCommand.InterruptDisable,
  PCI_STATUS_INTERRUPT: PciStatus.Interrupt,
  PCI_STATUS_CAP_LIST: PciStatus.CapabilitiesList,
  PCI_CAP_ID_VNDR: PciCapability.Vendor,
  PCI_BASE_ADDRESS_SPACE_IO: PciBar.Io,
  "~PCI_BASE_ADDRESS_IO_MASK": PciBar.IoFlags,
  "~PCI_BASE_ADDRESS_MEM_MASK": PciBar.MemoryFlags,
};

const HEADERS = ["pci_regs", "virtio_config", "virtio_ids", "virtio_ring", "virtio_blk", "virtio_mmio", "virtio_pci"];

function printed(expressions: readonly string[]): number[] {
  const folder = mkdtempSync(join(tmpdir(), "virtio-headers-"));
  try {
    const includes = ["stdio.h", "stddef.h", ...HEADERS.map((name) => `linux/${name}.h`)];
    const prints = expressions.map((expression) => `  printf("%ld\\n", (long)(${expression}));`);
    const path = join(folder, "layout");
    const lines = [
      ...includes.map((name) => `#include <${name}>`),
      "int main(void) {",
      ...prints,
      "  return 0;",
      "}",
      "",
    ];
    writeFileSync(`${path}.c`, lines.join("\n"));
    execFileSync("gcc", ["-o", path, `${path}.c`]);
    return execFileSync(path, { encoding: "utf8" }).trim().split("\n").map(Number);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const header = "/usr/include/linux/virtio_pci.h";

peerTest(found("gcc") ? header : "gcc", "gcc and linux-libc-dev", "virtio and PCI as Linux's headers have them", () => {
  const lines = printed(Object.keys(EXPECTED));
  expect(Object.fromEntries(Object.keys(EXPECTED).map((key, i) => [key, lines[i]]))).toEqual(EXPECTED);
});
