const SECTOR = 512;
/** Where the descriptors of our own monolithic disks are, and QEMU's: sectors 1 to 20, filled up with zeros. */
const DESCRIPTOR = { from: SECTOR, to: 21 * SECTOR };

/** A copy of a VMDK without a parent that names one, by its CID and its file. */
export function overParent(image: Uint8Array, cid: number, hint: string): Uint8Array {
  const copy = image.slice();
  const room = copy.subarray(DESCRIPTOR.from, DESCRIPTOR.to);
  const text = new TextDecoder("latin1").decode(room).replace(/\0+$/, "");
  const named = `parentCID=${cid.toString(16).padStart(8, "0")}\nparentFileNameHint="${hint}"`;
  const changed = new TextEncoder().encode(text.replace("parentCID=ffffffff", named));
  if (changed.length <= text.length || changed.length > room.length) throw new Error("no descriptor to change");
  room.fill(0);
  room.set(changed);
  return copy;
}
