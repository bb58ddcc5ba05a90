// What files look like that are not opened here.
import { textAt } from "./io.ts";

/** What to do with an image that macOS has encrypted. */
export const DECRYPT = "Decrypt it on a Mac: hdiutil convert FILE -format UDZO -o NEW.dmg, which asks for its password";

/** The format, not supported here, that an image with this first and this last sector has; undefined when none is known. */
export function foreignFormat(head: Uint8Array, tail: Uint8Array): { name: string; hint: string } | undefined {
  const says = (bytes: Uint8Array, text: string) => textAt(bytes, 0, text.length) === text;
  // hdiutil -encryption: the header of its first kind is at the end, with these words last.
  if (says(head, "encrcdsa") || says(tail.subarray(-8), "cdsaencr")) return { name: "encrypted dmg", hint: DECRYPT };
  return undefined;
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
