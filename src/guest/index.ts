/** Drivers that run in the guest: for machines whose guest is JavaScript, for tests and for measurements. */
export { type AtaProbeOptions, probeAta } from "./ata/probe.ts";
export { type BlkfrontOptions, connectBlkfront } from "./blkfront.ts";
export { BlockLayer } from "./block-layer.ts";
export type { BlockDriver } from "./driver.ts";
export { probeVirtioBlk, type VirtioBlkDriver, type VirtioBlkProbe } from "./virtio-blk.ts";
