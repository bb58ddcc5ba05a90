// What the first sector of an image looks like, of every format that this library or QEMU tells by it.

/** First bytes of images that are not opened here. */
const FOREIGN: readonly { format: string; at: number; bytes: string }[] = [
  // hdiutil -encryption; the older kind has its header at the end.
  { format: "encrypted dmg", at: 0, bytes: "encrcdsa" },
];

/** The format, not supported here, that an image with this first sector has; undefined when none is known. */
export function foreignFormat(head: Uint8Array): string | undefined {
  const is = ({ at, bytes }: { at: number; bytes: string }) => {
    for (let i = 0; i < bytes.length; i++) if (head[at + i] !== bytes.charCodeAt(i)) return false;
    return true;
  };
  return FOREIGN.find(is)?.format;
}

/** What whole files are packed with, and the command that unpacks `FILE` beside it. */
const PACKED: readonly { name: string; bytes: string; command: string }[] = [
  { name: "gzip", bytes: "\x1f\x8b\x08", command: "gzip -dk FILE" },
  { name: "xz", bytes: "\xfd7zXZ\0", command: "xz -dk FILE" },
  { name: "Zstandard", bytes: "\x28\xb5\x2f\xfd", command: "zstd -d FILE" },
  { name: "bzip2", bytes: "BZh", command: "bzip2 -dk FILE" },
  { name: "zip", bytes: "PK\x03\x04", command: "unzip FILE" },
  { name: "7z", bytes: "7z\xbc\xaf\x27\x1c", command: "7z x FILE" },
];

/** What the file is packed with, and how to unpack it; undefined when it does not look packed. */
export function packedWith(head: Uint8Array): { name: string; command: string } | undefined {
  return PACKED.find(({ bytes }) => {
    for (let i = 0; i < bytes.length; i++) if (head[i] !== bytes.charCodeAt(i)) return false;
    return true;
  });
}
