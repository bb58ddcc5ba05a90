import { deflateSync } from "node:zlib";

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

/** The text of a disk in several files. */
export function descriptorText(
  createType: string,
  extents: readonly string[],
  more: readonly string[] = [],
): Uint8Array {
  // QEMU, when it writes, drops what is between the CID and the parent's.
  const ids = ["CID=12345678", ...(more.some((line) => line.startsWith("parentCID")) ? [] : ["parentCID=ffffffff"])];
  const lines = ["# Disk DescriptorFile", "version=1", ...ids, ...more, `createType="${createType}"`];
  return new TextEncoder().encode(`${[...lines, "# Extent description", ...extents].join("\n")}\n`);
}

const isZero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);
const roundUp = (bytes: number) => Math.ceil(bytes / SECTOR) * SECTOR;

/** A file that grows by whole sectors. */
class Growing {
  bytes: Uint8Array = new Uint8Array(0);

  add(bytes: Uint8Array, room = bytes.length): number {
    const at = this.bytes.length;
    const grown = new Uint8Array(at + roundUp(room));
    grown.set(this.bytes);
    grown.set(bytes, at);
    this.bytes = grown;
    return at / SECTOR;
  }
  get view(): DataView {
    return new DataView(this.bytes.buffer);
  }
}

/** A VMFSSPARSE extent of ESX Server: what is zeros is not there, nor is the table of what is all zeros. */
export function cowdExtent(content: Uint8Array, grain = 8): Uint8Array {
  const file = new Growing();
  const tables = Math.ceil(content.length / (grain * SECTOR * 4096));
  file.add(new Uint8Array(0), 4 * SECTOR);
  const directory = file.add(new Uint8Array(tables * 4));
  for (const [i, word] of [0x44574f43, 1, 3, content.length / SECTOR, grain, directory, tables].entries()) {
    file.view.setUint32(i * 4, word, true);
  }
  for (let at = 0, table = 0; at < content.length; at += grain * SECTOR) {
    const index = at / (grain * SECTOR);
    if (index % 4096 === 0) table = 0;
    const bytes = content.subarray(at, at + grain * SECTOR);
    if (isZero(bytes)) continue;
    if (table === 0) {
      table = file.add(new Uint8Array(4096 * 4));
      file.view.setUint32(directory * SECTOR + Math.floor(index / 4096) * 4, table, true);
    }
    const place = file.add(bytes, grain * SECTOR);
    file.view.setUint32(table * SECTOR + (index % 4096) * 4, place, true);
  }
  file.view.setUint32(28, file.bytes.length / SECTOR, true);
  return file.bytes;
}

const SE_GRAIN = 4096;

/** A SESPARSE extent of ESXi; grains that are zeros are not there, or marked as zeros in turn. Its tables stand in reverse. */
export function seSparseExtent(content: Uint8Array): Uint8Array {
  const file = new Growing();
  const grains = Math.ceil(content.length / SE_GRAIN);
  const tables = Math.ceil(grains / 4096);
  const [header, own] = [file.add(new Uint8Array(SECTOR)), file.add(new Uint8Array(SECTOR))];
  const directory = file.add(new Uint8Array(tables * 8));
  const first = file.add(new Uint8Array(tables * 4096 * 8));
  const data = file.add(new Uint8Array(0));
  const { view } = file;
  const put = (sector: number, word: number, value: bigint) =>
    view.setBigUint64(sector * SECTOR + word * 8, value, true);
  for (const [word, value] of [
    [0, 0xcafebabe],
    [1, 0x200000001],
    [2, content.length / SECTOR],
    [3, SE_GRAIN / SECTOR],
    [4, 64],
    [10, own],
    [11, 1],
    [16, directory],
    [17, Math.ceil((tables * 8) / SECTOR)],
    [18, first],
    [19, tables * 64],
    [24, data],
  ]) {
    put(header, word, BigInt(value));
  }
  put(own, 0, 0xcafecafen);
  const stored: Uint8Array[] = [];
  for (let number = 0; number < tables; number++) {
    const place = tables - 1 - number;
    put(directory, number, 0x1000_0000_0000_0000n + BigInt(place));
    for (let i = 0; i < 4096 && number * 4096 + i < grains; i++) {
      const index = number * 4096 + i;
      const bytes = content.subarray(index * SE_GRAIN, (index + 1) * SE_GRAIN);
      const entry = (value: bigint) => put(first + place * 64, i, value);
      if (isZero(bytes)) entry([0n, 1n << 60n, 2n << 60n][index % 3]);
      else {
        // The lowest twelve bits of its number stand above the others.
        entry((3n << 60n) | (BigInt(stored.length & 0xfff) << 48n) | BigInt(stored.length >> 12));
        stored.push(bytes);
      }
    }
  }
  const whole = new Uint8Array(file.bytes.length + stored.length * SE_GRAIN);
  whole.set(file.bytes);
  for (const [i, bytes] of stored.entries()) whole.set(bytes, file.bytes.length + i * SE_GRAIN);
  return whole;
}

/** A compressed extent, as in streamOptimized disks; with markers, and the directory named by a footer or by the header. */
export function streamExtent(
  content: Uint8Array,
  { description = new Uint8Array(0) as Uint8Array, grain = 16, entries = 512, footer = true, markers = true } = {},
): Uint8Array {
  const file = new Growing();
  const bytes = grain * SECTOR;
  const marker = (value: number, size: number, type: number, body: Uint8Array) => {
    const whole = new Uint8Array(SECTOR + body.length);
    const view = new DataView(whole.buffer);
    view.setBigUint64(0, BigInt(value), true);
    view.setUint32(8, size, true);
    view.setUint32(12, type, true);
    whole.set(body, SECTOR);
    return file.add(whole) + 1;
  };
  const header = (directory: bigint) => {
    const head = new Uint8Array(SECTOR);
    const view = new DataView(head.buffer);
    head.set(new TextEncoder().encode("KDMV"));
    view.setUint32(4, 3, true);
    view.setUint32(8, 1 | 0x10000 | (markers ? 0x20000 : 0), true);
    view.setBigUint64(12, BigInt(content.length / SECTOR), true);
    view.setBigUint64(20, BigInt(grain), true);
    view.setBigUint64(28, description.length > 0 ? 1n : 0n, true);
    view.setBigUint64(36, BigInt(roundUp(description.length) / SECTOR), true);
    view.setUint32(44, entries, true);
    view.setBigUint64(56, directory, true);
    view.setBigUint64(64, BigInt(1 + roundUp(description.length) / SECTOR), true);
    head.set([0x0a, 0x20, 0x0d, 0x0a], 73);
    view.setUint16(77, 1, true);
    return head;
  };
  file.add(header(2n ** 64n - 1n));
  file.add(description);
  const tables = Math.ceil(content.length / (bytes * entries));
  const directory = new Uint8Array(roundUp(tables * 4));
  for (let number = 0; number < tables; number++) {
    const table = new Uint8Array(entries * 4);
    for (let i = 0; i < entries; i++) {
      const at = (number * entries + i) * bytes;
      const own = content.subarray(at, at + bytes);
      if (at >= content.length || isZero(own)) continue;
      const padded = new Uint8Array(bytes);
      padded.set(own);
      const packed = deflateSync(padded);
      const lead = markers ? 12 : 0;
      const whole = new Uint8Array(lead + packed.length);
      if (markers) {
        new DataView(whole.buffer).setBigUint64(0, BigInt(at / SECTOR), true);
        new DataView(whole.buffer).setUint32(8, packed.length, true);
      }
      whole.set(packed, lead);
      new DataView(table.buffer).setUint32(i * 4, file.add(whole), true);
    }
    if (isZero(table)) continue;
    const place = markers ? marker(table.length / SECTOR, 0, 1, table) : file.add(table);
    new DataView(directory.buffer).setUint32(number * 4, place, true);
  }
  const place = markers ? marker(directory.length / SECTOR, 0, 2, directory) : file.add(directory);
  if (!footer) {
    file.bytes.set(header(BigInt(place)));
    return file.bytes;
  }
  marker(1, 0, 3, header(BigInt(place)));
  marker(0, 0, 0, new Uint8Array(0));
  return file.bytes;
}

/** The disk that the sectors of a file are. */
export const streamImage = (content: Uint8Array, options: { footer?: boolean; markers?: boolean } = {}): Uint8Array => {
  const line = `RW ${content.length / SECTOR} SPARSE "disk.vmdk"`;
  return streamExtent(content, { ...options, description: descriptorText("streamOptimized", [line]) });
};
