/** Paravane's disks in v86 (https://github.com/copy/v86): `attach(emulator, { ide: [[disk]] })`. */
export { type AttachOptions, attach, type V86Disks, type VirtioDisk } from "./attach.ts";
export type { V86Emulator } from "./internals.ts";
export type { V86Machine } from "./machine.ts";
export type { BootDevice } from "./replace.ts";
