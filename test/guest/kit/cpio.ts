/** What goes into an initramfs: a file's bytes and mode, or a folder. */
export interface CpioEntry {
  name: string;
  mode: number;
  data?: Uint8Array;
  /** Of a device node: major, minor. */
  device?: readonly [number, number];
}

/** An archive in the kernel's "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst). */
export function cpio(entries: readonly CpioEntry[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const pad = (length: number) => parts.push(new Uint8Array((4 - (length & 3)) & 3));
  [...entries, { name: "TRAILER!!!", mode: 0 }].forEach(({ name, mode, data, device }: CpioEntry, i) => {
    const size = data?.length ?? 0;
    const [major, minor] = device ?? [0, 0];
    const fields = [i + 1, mode, 0, 0, 1, 0, size, 0, 0, major, minor, name.length + 1, 0];
    const hex = fields.map((value) => value.toString(16).toUpperCase().padStart(8, "0")).join("");
    const header = new TextEncoder().encode(`070701${hex}${name}\0`);
    parts.push(header);
    pad(header.length);
    if (data) {
      parts.push(data);
      pad(size);
    }
  });
  return Buffer.concat(parts);
}
