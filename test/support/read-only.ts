// Images of formats that are only read here, built byte by byte.
import { crc32, deflateRawSync, deflateSync } from "node:zlib";
import { streamImage } from "./vmdk.ts";

const SECTOR = 512;

/** A disk of `size` bytes: text, noise, zeros, in runs of 16 KiB. */
export function mixed(size: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(size);
  let state = seed >>> 0;
  for (let at = 0; at < size; at++) {
    const kind = Math.floor(at / 16384 + seed) % 3;
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    if (kind === 0) bytes[at] = 0x20 + (at % 61);
    else if (kind === 1) bytes[at] = state >>> 24;
  }
  return bytes;
}

const isZero = (bytes: Uint8Array) => bytes.every((byte) => byte === 0);

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
const padded = (bytes: Uint8Array, unit: number) => {
  const whole = new Uint8Array(Math.ceil(bytes.length / unit) * unit);
  whole.set(bytes);
  return whole;
};

/** A chunk of the disk, stored by that method. */
export interface DmgPart {
  method: number;
  /** Guest bytes. */
  size: number;
  packed?: Uint8Array;
}

/** The disk in chunks of 16 KiB: zeros as such, every fourth as it is, all else by zlib. */
export function dmgParts(content: Uint8Array): DmgPart[] {
  const parts: DmgPart[] = [];
  for (let at = 0; at < content.length; at += 16384) {
    const bytes = content.subarray(at, at + 16384);
    const size = bytes.length;
    if (isZero(bytes)) parts.push({ method: parts.length % 2 === 0 ? 0 : 2, size });
    else if (parts.length % 4 === 3) parts.push({ method: 1, size, packed: bytes });
    else parts.push({ method: 0x80000005, size, packed: deflateSync(bytes) });
  }
  return parts;
}

interface DmgOptions {
  /** The disk is spread over so many block tables. */
  tables?: number;
  /** In a resource fork, as before Mac OS X, not in a property list. */
  fork?: boolean;
  /** Bytes before the data fork. */
  lead?: number;
}

export function dmgImage(
  parts: readonly DmgPart[],
  { tables = 1, fork = false, lead = 0 }: DmgOptions = {},
): Uint8Array {
  const data: Uint8Array[] = [];
  let dataBytes = 0;
  let sector = 0;
  const mish = Array.from({ length: tables }, (_, number) => {
    const mine = parts.slice(
      Math.floor((parts.length * number) / tables),
      Math.floor((parts.length * (number + 1)) / tables),
    );
    const bytes = new Uint8Array(204 + 40 * (mine.length + 1));
    const view = new DataView(bytes.buffer);
    bytes.set(new TextEncoder().encode("mish"));
    view.setUint32(4, 1);
    view.setBigUint64(8, BigInt(sector));
    view.setUint32(200, mine.length + 1);
    let within = 0;
    for (const [i, { method, size, packed = new Uint8Array(0) }] of mine.entries()) {
      const at = 204 + i * 40;
      view.setUint32(at, method);
      view.setBigUint64(at + 8, BigInt(within));
      view.setBigUint64(at + 16, BigInt(size / SECTOR));
      view.setBigUint64(at + 24, BigInt(dataBytes));
      view.setBigUint64(at + 32, BigInt(packed.length));
      data.push(packed);
      dataBytes += packed.length;
      within += size / SECTOR;
    }
    view.setBigUint64(16, BigInt(within));
    const end = 204 + mine.length * 40;
    view.setUint32(end, 0xffffffff);
    view.setBigUint64(end + 8, BigInt(within));
    view.setBigUint64(end + 24, BigInt(dataBytes));
    sector += within;
    return bytes;
  });
  const stored = joined(data);
  const described = fork ? resourceFork(mish) : propertyList(mish);
  const koly = new Uint8Array(512);
  const view = new DataView(koly.buffer);
  koly.set(new TextEncoder().encode("koly"));
  for (const [at, value] of [
    [4, 4],
    [8, 512],
    [12, 1],
    [56, 1],
    [60, 1],
    [80, 2],
    [84, 32],
    [88, crc32(stored)],
    [488, 1],
  ])
    view.setUint32(at, value);
  for (const [at, value] of [
    [24, lead],
    [32, dataBytes],
    [fork ? 40 : 216, lead + dataBytes],
    [fork ? 48 : 224, described.length],
    [492, sector],
  ])
    view.setBigUint64(at, BigInt(value));
  return joined([new Uint8Array(lead).fill(0xee), stored, described, koly]);
}

function propertyList(mish: readonly Uint8Array[]): Uint8Array {
  const blocks = mish.map(
    (bytes, i) => `\t\t\t<dict>
\t\t\t\t<key>Attributes</key>
\t\t\t\t<string>0x0050</string>
\t\t\t\t<key>CFName</key>
\t\t\t\t<string>part ${i} &amp; &#x26; more</string>
\t\t\t\t<key>Data</key>
\t\t\t\t<data>
${(
  Buffer.from(bytes)
    .toString("base64")
    .match(/.{1,52}/g) ?? []
)
  .map((line) => `\t\t\t\t${line}`)
  .join("\n")}
\t\t\t\t</data>
\t\t\t\t<key>ID</key>
\t\t\t\t<string>${i}</string>
\t\t\t</dict>
`,
  );
  return new TextEncoder().encode(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>resource-fork</key>
\t<dict>
\t\t<key>blkx</key>
\t\t<array>
${blocks.join("")}\t\t</array>
\t\t<key>plst</key>
\t\t<array/>
\t</dict>
</dict>
</plist>
`);
}

function resourceFork(mish: readonly Uint8Array[]): Uint8Array {
  const data = joined(
    mish.map((bytes) => {
      const whole = new Uint8Array(4 + bytes.length);
      new DataView(whole.buffer).setUint32(0, bytes.length);
      whole.set(bytes, 4);
      return whole;
    }),
  );
  const bytes = new Uint8Array(256 + data.length + 32);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of [256, 256 + data.length, data.length, 32].entries()) view.setUint32(i * 4, value);
  bytes.set(data, 256);
  return bytes;
}

export function cloopImage(content: Uint8Array, blockBytes = 65536): Uint8Array {
  const whole = padded(content, blockBytes);
  const count = whole.length / blockBytes;
  const blocks = Array.from({ length: count }, (_, i) =>
    deflateSync(whole.subarray(i * blockBytes, (i + 1) * blockBytes)),
  );
  const head = new Uint8Array(136 + (count + 1) * 8);
  const view = new DataView(head.buffer);
  const script = "#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\nexit $?\n";
  head.set(new TextEncoder().encode(script));
  view.setUint32(128, blockBytes);
  view.setUint32(132, count);
  let at = head.length;
  for (let i = 0; i <= count; i++) {
    view.setBigUint64(136 + i * 8, BigInt(at));
    at += blocks[i]?.length ?? 0;
  }
  return joined([head, ...blocks]);
}

/** Extents come in the file in the reverse of the disk's order. */
export function bochsImage(content: Uint8Array, { version = 2, extentBytes = 65536 } = {}): Uint8Array {
  const sectors = extentBytes / SECTOR;
  const count = Math.ceil(content.length / extentBytes);
  const bitmapBytes = Math.ceil(sectors / 8);
  const bitmapSpace = Math.ceil(bitmapBytes / SECTOR) * SECTOR;
  const head = new Uint8Array(SECTOR);
  const view = new DataView(head.buffer);
  const text = (at: number, value: string) => head.set(new TextEncoder().encode(value), at);
  text(0, "Bochs Virtual HD Image");
  text(32, "Redolog");
  text(48, "Growing");
  for (const [i, value] of [version << 16, SECTOR, count, bitmapBytes, extentBytes].entries()) {
    view.setUint32(64 + i * 4, value, true);
  }
  view.setBigUint64(version === 1 ? 84 : 88, BigInt(content.length), true);
  const catalog = new Uint8Array(count * 4).fill(0xff);
  const extents: Uint8Array[] = [];
  for (let index = count - 1; index >= 0; index--) {
    const data = padded(content.subarray(index * extentBytes, (index + 1) * extentBytes), extentBytes);
    if (isZero(data)) continue;
    const extent = new Uint8Array(bitmapSpace + extentBytes);
    for (let sector = 0; sector < sectors; sector++) {
      const bytes = data.subarray(sector * SECTOR, (sector + 1) * SECTOR);
      // What is not there is not read: noise stands for it.
      if (isZero(bytes)) extent.fill(0xdd, bitmapSpace + sector * SECTOR, bitmapSpace + (sector + 1) * SECTOR);
      else {
        extent[sector >> 3] |= 1 << (sector & 7);
        extent.set(bytes, bitmapSpace + sector * SECTOR);
      }
    }
    new DataView(catalog.buffer).setUint32(index * 4, extents.length, true);
    extents.push(extent);
  }
  return joined([head, catalog, ...extents]);
}

/** A table of tables, with the disk's clusters behind them. */
function tree(
  content: Uint8Array,
  { clusterBytes, l2Entries, tableBytes, l1Position, littleEndian }: TreeOptions,
  store: (cluster: Uint8Array, index: number, position: number) => { entry: bigint; bytes: Uint8Array } | null,
): { l1: Uint8Array; rest: Uint8Array } {
  const clusters = Math.ceil(content.length / clusterBytes);
  const count = Math.ceil(clusters / l2Entries);
  const l1 = new Uint8Array(tableBytes(count));
  const parts: Uint8Array[] = [];
  const align = (at: number) => Math.ceil(at / clusterBytes) * clusterBytes;
  const start = align(l1Position + l1.length);
  let end = start;
  const add = (bytes: Uint8Array, position: number) => {
    parts.push(new Uint8Array(position - end), bytes);
    end = position + bytes.length;
  };
  for (let i = 0; i < count; i++) {
    const table = new Uint8Array(tableBytes(l2Entries));
    const at = align(end);
    new DataView(l1.buffer).setBigUint64(i * 8, BigInt(at), littleEndian);
    add(table, at);
    for (let slot = 0; slot < l2Entries && i * l2Entries + slot < clusters; slot++) {
      const index = i * l2Entries + slot;
      const bytes = padded(content.subarray(index * clusterBytes, (index + 1) * clusterBytes), clusterBytes);
      const kept = store(bytes, index, end);
      if (!kept) continue;
      new DataView(table.buffer).setBigUint64(slot * 8, kept.entry, littleEndian);
      // Compressed clusters begin anywhere.
      if (kept.bytes.length > 0) add(kept.bytes, kept.bytes.length < clusterBytes ? end : align(end));
    }
  }
  return { l1, rest: joined([new Uint8Array(start - l1Position - l1.length), ...parts]) };
}
interface TreeOptions {
  clusterBytes: number;
  l2Entries: number;
  tableBytes: (entries: number) => number;
  l1Position: number;
  littleEndian: boolean;
}

/** Every second cluster of zeros is marked as such, the others are absent. */
export function qedImage(
  content: Uint8Array,
  { clusterBytes = 4096, parent = "", needsCheck = false } = {},
): Uint8Array {
  const head = new Uint8Array(clusterBytes);
  const view = new DataView(head.buffer);
  head.set(new TextEncoder().encode("QED\0"));
  for (const [i, value] of [clusterBytes, 2, 1].entries()) view.setUint32(4 + i * 4, value, true);
  view.setBigUint64(16, BigInt((parent ? 1 : 0) + (needsCheck ? 2 : 0)), true);
  view.setBigUint64(40, BigInt(clusterBytes), true);
  view.setBigUint64(48, BigInt(content.length), true);
  view.setUint32(56, 64, true);
  view.setUint32(60, parent.length, true);
  head.set(new TextEncoder().encode(parent), 64);
  // QEMU refuses tables of one cluster, although its specification allows them.
  const tableBytes = clusterBytes * 2;
  const options = { clusterBytes, l2Entries: tableBytes / 8, tableBytes: () => tableBytes, l1Position: clusterBytes };
  const { l1, rest } = tree(content, { ...options, littleEndian: true }, (bytes, index, end) => {
    if (isZero(bytes)) return index % 2 === 0 ? { entry: 1n, bytes: new Uint8Array(0) } : null;
    return { entry: BigInt(Math.ceil(end / clusterBytes) * clusterBytes), bytes };
  });
  return joined([head, l1, rest]);
}

/** Every second cluster is compressed, where that makes it smaller. */
export function qcow1Image(content: Uint8Array, { clusterBits = 12, l2Bits = 9, parent = "" } = {}): Uint8Array {
  const clusterBytes = 2 ** clusterBits;
  const head = new Uint8Array(48 + Math.ceil(parent.length / 8) * 8);
  const view = new DataView(head.buffer);
  head.set([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 1]);
  if (parent) {
    view.setBigUint64(8, 48n);
    view.setUint32(16, parent.length);
    head.set(new TextEncoder().encode(parent), 48);
  }
  view.setBigUint64(24, BigInt(content.length));
  head.set([clusterBits, l2Bits], 32);
  view.setBigUint64(40, BigInt(head.length));
  const l2Entries = 2 ** l2Bits;
  const options = { clusterBytes, l2Entries, tableBytes: (n: number) => n * 8, l1Position: head.length };
  const { l1, rest } = tree(content, { ...options, littleEndian: false }, (bytes, index, end) => {
    if (isZero(bytes)) return null;
    const packed = deflateRawSync(bytes, { windowBits: 12 });
    if (index % 2 === 1 || packed.length >= clusterBytes) {
      return { entry: BigInt(Math.ceil(end / clusterBytes) * clusterBytes), bytes };
    }
    const entry = (1n << 63n) | (BigInt(packed.length) << BigInt(63 - clusterBits)) | BigInt(end);
    return { entry, bytes: packed };
  });
  return joined([head, l1, rest]);
}

/** The last band comes first in the file, and those that are zeros are not there. */
export function sparseImage(content: Uint8Array, bandBytes = 16384): Uint8Array {
  const count = Math.ceil(content.length / bandBytes);
  const stored = Array.from({ length: count }, (_, i) => count - 1 - i).filter(
    (i) => !isZero(content.subarray(i * bandBytes, (i + 1) * bandBytes)),
  );
  const parts: Uint8Array[] = [];
  let end = 0;
  for (let done = 0, first = 64; done < stored.length || done === 0; first = 56) {
    const here = stored.slice(done, done + (4096 - first) / 4);
    const node = new Uint8Array(4096);
    const view = new DataView(node.buffer);
    node.set(new TextEncoder().encode("sprs"));
    end += 4096 + here.length * bandBytes;
    done += here.length;
    const next = done < stored.length ? end : 0;
    if (first === 64) {
      for (const [at, value] of [
        [4, 3],
        [8, bandBytes / SECTOR],
        [12, 1],
        [16, content.length / SECTOR],
        [32, content.length / SECTOR],
      ])
        view.setUint32(at, value);
      view.setBigUint64(20, BigInt(next));
    } else {
      view.setUint32(4, parts.length);
      view.setBigUint64(12, BigInt(next));
    }
    for (const [i, band] of here.entries()) view.setUint32(first + i * 4, band + 1);
    const bands = here.map((band) => padded(content.subarray(band * bandBytes, (band + 1) * bandBytes), bandBytes));
    parts.push(node, ...bands);
    if (here.length === 0) break;
  }
  return joined(parts);
}

/** A sparse bundle: its Info.plist, and the bands that are not zeros, without the zeros at their ends. */
export function sparseBundle(content: Uint8Array, bandBytes = 16384) {
  const files: Record<string, Uint8Array> = { token: new Uint8Array(0) };
  for (let band = 0; band * bandBytes < content.length; band++) {
    const bytes = content.subarray(band * bandBytes, (band + 1) * bandBytes);
    const last = bytes.findLastIndex((byte) => byte !== 0);
    if (last >= 0) files[`bands/${band.toString(16)}`] = bytes.slice(0, Math.ceil((last + 1) / SECTOR) * SECTOR);
  }
  const info = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
\t<key>CFBundleInfoDictionaryVersion</key>
\t<string>6.0</string>
\t<key>band-size</key>
\t<integer>${bandBytes}</integer>
\t<key>bundle-backingstore-version</key>
\t<integer>1</integer>
\t<key>diskimage-bundle-type</key>
\t<string>com.apple.diskimage.sparsebundle</string>
\t<key>size</key>
\t<integer>${content.length}</integer>
</dict>
</plist>
`;
  return { info, files };
}

/** What a tar archive has: a file, or records about the next one. */
export interface TarMember {
  name: string;
  body: Uint8Array | string;
  /** One character. */
  type?: string;
  /** What the header says, whatever the body has. */
  size?: number;
  /** GNU's: more of the map of holes follows. */
  extended?: boolean;
}

/** A tar archive as old as POSIX.1-1988. */
export const ovaImage = (files: Record<string, Uint8Array | string>): Uint8Array =>
  tarOf(Object.entries(files).map(([name, body]) => ({ name, body })));

export function tarOf(members: readonly TarMember[]): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { name, body: given, type = "0", size, extended } of members) {
    const body = typeof given === "string" ? new TextEncoder().encode(given) : given;
    const head = new Uint8Array(SECTOR);
    const put = (at: number, text: string) => head.set(new TextEncoder().encode(text), at);
    put(0, name);
    put(100, "0000644");
    put(124, (size ?? body.length).toString(8).padStart(11, "0"));
    put(156, type);
    put(257, "ustar");
    put(263, "00");
    if (extended) head[482] = 1;
    sumUp(head);
    parts.push(head, padded(body, SECTOR));
  }
  return joined([...parts, new Uint8Array(2 * SECTOR)]);
}

/** Makes the checksum of a tar header right. */
export function sumUp(head: Uint8Array): void {
  head.fill(0x20, 148, 156);
  const sum = head.subarray(0, SECTOR).reduce((all, byte) => all + byte, 0);
  head.set(new TextEncoder().encode(`${sum.toString(8).padStart(6, "0")}\0`), 148);
}

/** "KEY=VALUE" each, with the lengths that POSIX wants before them. */
export function paxRecords(records: readonly string[]): Uint8Array {
  const lines = records.map((record) => {
    let length = record.length + 2;
    while (`${length} ${record}\n`.length !== length) length++;
    return `${length} ${record}\n`;
  });
  return new TextEncoder().encode(lines.join(""));
}

/** The descriptor of a machine with these disks. */
export function ovf(files: readonly string[], attributes = ""): string {
  const references = files.map((file, i) => `<File ovf:href="${file}" ovf:id="file${i}" ${attributes}/>`);
  const disks = files.map((_, i) => `<Disk ovf:capacity="1" ovf:diskId="vmdisk${i}" ovf:fileRef="file${i}"/>`);
  return `<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References>${references.join("")}<File ovf:href="x.iso" ovf:id="iso"/></References>
  <DiskSection><Info>Disks</Info>${disks.join("")}</DiskSection>
</Envelope>
`;
}

/** One small image of each format, by its name; of bundles, the descriptor. */
export const READ_ONLY: Record<string, (content: Uint8Array) => Uint8Array> = {
  "parallels-bundle": (content) => new TextEncoder().encode(bundle(content, mixed(content.length, 9)).descriptor),
  qed: (content) => qedImage(content),
  qcow: (content) => qcow1Image(content),
  bochs: (content) => bochsImage(content, { extentBytes: 32768 }),
  cloop: (content) => cloopImage(content, 32768),
  ova: (content) => ovaImage({ "vm.ovf": ovf(["disk1.vmdk"]), "disk1.vmdk": streamImage(content) }),
  sparseimage: (content) => sparseImage(content),
  sparsebundle: (content) => new TextEncoder().encode(sparseBundle(content).info),
  dmg: (content) => dmgImage(dmgParts(content), { tables: 2 }),
};

/** An expanding Parallels disk, or what it holds over one with the content `base`. `old`: entries are sectors. */
export function hdsImage(content: Uint8Array, base?: Uint8Array, clusterBytes = 4096, old = false): Uint8Array {
  const count = Math.ceil(content.length / clusterBytes);
  const unit = old ? SECTOR : clusterBytes;
  const start = Math.ceil((64 + count * 4) / unit) * unit;
  const head = new Uint8Array(start);
  const view = new DataView(head.buffer);
  head.set(new TextEncoder().encode(old ? "WithoutFreeSpace" : "WithouFreSpacExt"));
  for (const [at, value] of [
    [16, 2],
    [28, clusterBytes / SECTOR],
    [32, count],
    [36, content.length / SECTOR],
    [48, start / SECTOR],
  ])
    view.setUint32(at, value, true);
  const clusters: Uint8Array[] = [];
  for (let i = 0; i < count; i++) {
    const [bytes, below] = [content, base].map((all) => all?.subarray(i * clusterBytes, (i + 1) * clusterBytes));
    if (below ? Buffer.compare(bytes!, below) === 0 : isZero(bytes!)) continue;
    view.setUint32(64 + i * 4, (start + clusters.length * clusterBytes) / unit, true);
    clusters.push(padded(bytes!, clusterBytes));
  }
  return joined([head, ...clusters]);
}

const GUIDS = ["5fbaabe3-6958-40ff-92a7-860e329aab41", "11111111-2222-3333-4444-555555555555"];
const NONE = "00000000-0000-0000-0000-000000000000";

interface Bundle {
  descriptor: string;
  files: Record<string, Uint8Array>;
}

/** A disk in two parts, the second one plain at first; and of each, what was written after a snapshot, when it was `before`. */
export function bundle(
  content: Uint8Array,
  before: Uint8Array,
  { cut = content.length / 2, clusterBytes = 4096 } = {},
): Bundle {
  const files: Record<string, Uint8Array> = {};
  const storages = [
    [0, cut],
    [cut, content.length],
  ].map(([from, to], i) => {
    const [now, then] = [content.subarray(from, to), before.subarray(from, to)];
    files[`${i}.0.hds`] = i === 1 ? then : hdsImage(then, undefined, clusterBytes);
    files[`${i}.1.hds`] = hdsImage(now, then, clusterBytes);
    const image = (guid: string, type: string, file: string) =>
      `<Image><GUID>{${guid}}</GUID><Type>${type}</Type><File>${file}</File></Image>`;
    return `<Storage><Start>${from / SECTOR}</Start><End>${to / SECTOR}</End><Blocksize>${clusterBytes / SECTOR}</Blocksize>
      ${image(GUIDS[1], i === 1 ? "Plain" : "Compressed", `${i}.0.hds`)}
      ${image(GUIDS[0], "Compressed", `${i}.1.hds`)}
    </Storage>`;
  });
  const shot = (guid: string, parent: string) =>
    `<Shot><GUID>{${guid}}</GUID><ParentGUID>{${parent}}</ParentGUID></Shot>`;
  const descriptor = `<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
  <Disk_Parameters>
    <Disk_size>${content.length / SECTOR}</Disk_size><Cylinders>${content.length / SECTOR / 512}</Cylinders>
    <PhysicalSectorSize>4096</PhysicalSectorSize><Heads>16</Heads><Sectors>32</Sectors><Padding>0</Padding>
    <Encryption><Engine>{${NONE}}</Engine><Data></Data></Encryption>
    <UID>{9a6a5c5a-3d3b-4f0a-8f7c-000000000001}</UID><Name>disk &amp; more</Name>
  </Disk_Parameters>
  <StorageData>${storages.join("\n")}</StorageData>
  <Snapshots><TopGUID>{${GUIDS[0]}}</TopGUID>${shot(GUIDS[0], GUIDS[1])}${shot(GUIDS[1], NONE)}</Snapshots>
</Parallels_disk_image>
`;
  return { descriptor, files };
}
