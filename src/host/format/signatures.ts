// What the first sector of an image looks like, of every format that this library or QEMU tells by it.
import { FORMATS } from "./index.ts";
import { raw } from "./raw.ts";

/** First bytes of images that are not opened here. Names are those of `qemu-img -f`. */
const FOREIGN: readonly { format: string; at: number; bytes: string }[] = [
  { format: "vmdk", at: 0, bytes: "KDMV" },
  { format: "vmdk", at: 0, bytes: "COWD" },
  { format: "vdi", at: 64, bytes: "\x7f\x10\xda\xbe" },
  { format: "qed", at: 0, bytes: "QED\0" },
  { format: "parallels", at: 0, bytes: "WithoutFreeSpace" },
  { format: "parallels", at: 0, bytes: "WithouFreSpacExt" },
  { format: "luks", at: 0, bytes: "LUKS\xba\xbe" },
  { format: "qcow", at: 0, bytes: "QFI\xfb\0\0\0\x01" },
  { format: "bochs", at: 0, bytes: "Bochs Virtual HD Image\0" },
  {
    format: "cloop",
    at: 0,
    bytes: "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n",
  },
];

/** The format, not supported here, that an image with this first sector has; undefined when none is known. */
export function foreignFormat(head: Uint8Array): string | undefined {
  const is = ({ at, bytes }: { at: number; bytes: string }) => {
    for (let i = 0; i < bytes.length; i++) if (head[at + i] !== bytes.charCodeAt(i)) return false;
    return true;
  };
  return FOREIGN.find(is)?.format ?? (isVmdkDescriptor(head) ? "vmdk" : undefined);
}

/** A text file whose first line, comments and empty lines aside, is the version of a VMDK descriptor. */
function isVmdkDescriptor(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head.subarray(0, 512));
  return /^# Disk DescriptorFile/.test(text) || /^(?:#[^\n]*\n|[ \r]*\n)*version=[123][ \r\n]/.test(text);
}

/** The format that a file with this first or this last sector would be taken for; undefined when that is raw. */
export function claimedBy(head: Uint8Array, tail: Uint8Array): string | undefined {
  const own = FORMATS.find((format) => format !== raw && format.probe(head, tail) > raw.probe(head, tail));
  return own?.name ?? foreignFormat(head);
}
