// The whole ABI of the core on one page. Every export takes the linear address of a context the host has laid out (see
// the *Field enums in spec/) and keeps no state of its own: one module serves any number of devices and guests.

export { cipherKey, cipherTables } from "./crypto/aes";
export { cipherSectors } from "./crypto/sectors";
export { idePrd } from "./ide/prdt";
export { ideFinish, ideRead, ideReset, ideWrite } from "./ide/taskfile";
export { mapResolve } from "./map/resolve";
export { adler32 } from "./packed/adler32";
export { inflate } from "./packed/inflate";
export { unzstd } from "./packed/zstd";
export { zstd } from "./packed/zstd-pack";
export { xenBackComplete, xenBackConsume } from "./ring/blkif";
export { xenFrontPoll, xenFrontSubmit } from "./ring/blkif-front";
export { grantMap, grantUnmap } from "./ring/grant";
export { pvscsiComplete, pvscsiConsume, pvscsiMessage } from "./ring/pvscsi";
export { virtioBlkComplete, virtioBlkConsume } from "./ring/virtio-blk";
export { virtioBlkPoll, virtioBlkSubmit } from "./ring/virtio-blk-driver";
export { incompressible, zeroRun } from "./scan";
