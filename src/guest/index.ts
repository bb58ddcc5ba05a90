/** Drivers that run in the guest: for machines whose guest is JavaScript, for tests and for measurements. */
export { type AtaProbeOptions, probeAta, probeIde } from "./ata/probe.ts";
export { AtapiDrive, type PacketOutcome, type PacketSense } from "./atapi.ts";
export { type BlkfrontOptions, connectBlkfront } from "./blkfront.ts";
export { BlockLayer } from "./block-layer.ts";
export type { BlockDriver } from "./driver.ts";
export { type PvscsiProbe, probePvscsi } from "./pvscsi.ts";
export type { ScsiDiskDriver } from "./scsi-disk.ts";
export {
  probeVirtioBlk,
  type VirtioBlkDriver,
  type VirtioBlkProbe,
  type VirtioBlkTuning,
  type VirtioPlace,
} from "./virtio-blk.ts";
export { Burst, type BurstOptions } from "./workload/burst.ts";
export { Ledger, type Region } from "./workload/ledger.ts";
export { Pattern } from "./workload/pattern.ts";
export { Random } from "./workload/random.ts";
export { sweep } from "./workload/sweep.ts";
export { WORKLOADS, type Workload, type WorkloadName } from "./workload/workloads.ts";
