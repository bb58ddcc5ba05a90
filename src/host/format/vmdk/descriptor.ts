// The text that describes a disk (VMware Virtual Disk Format 5.0, "The Descriptor File"): inside the only file, or apart.
// It is kept one character a byte, so that what is not understood is written back as it was.

import { invalid } from "../io.ts";

/** "parentCID" of a disk without a parent (CID_NOPARENT). */
export const NO_PARENT = "ffffffff";

/** One line of the "Extent description". */
export interface Extent {
  /** RW, RDONLY or NOACCESS. */
  access: string;
  sectors: number;
  /** FLAT, SPARSE, ZERO, VMFS, VMFSSPARSE, … */
  type: string;
  file?: string;
  /** Sectors of the file before it. */
  offset: number;
}

export interface Descriptor {
  text: string;
  /** Eight hexadecimal digits, lower case: changes when the disk's content does. */
  cid: string;
  /** The same, or what stands there instead (see `parentOf` in layout.ts). */
  parentCid: string;
  createType: string;
  parentHint?: string;
  extents: Extent[];
  /** The disk data base, without "ddb." */
  data: Record<string, string>;
  /** A line that begins as those of extents do, and is none: what it stands for would be missing from the disk. */
  odd?: string;
  /** The file that notes what of the disk changes. */
  changeTracking?: string;
  /** VMware has encrypted what the extents hold. */
  encrypted: boolean;
}

const ACCESS = /^(RW|RDONLY|NOACCESS)\b/i;
/** Behind the offset, those of devices may say which. */
const EXTENT = /^(RW|RDONLY|NOACCESS)\s+(\d{1,15})\s+([A-Z0-9]+)(?:\s+"([^"]*)"(?:\s+(\d{1,15})(?:\s.*)?)?)?$/;

/** Null when the text is no descriptor. */
export function parseDescriptor(text: string): Descriptor | null {
  const values = new Map<string, string>();
  const data: Record<string, string> = {};
  const extents: Extent[] = [];
  const decoded = decoder(text);
  let odd: string | undefined;
  let encrypted = false;
  for (const raw of text.split("\n")) {
    const line = raw.trim();
    const extent = EXTENT.exec(line);
    const pair = /^([\w.]+)\s*=\s*"?(.*?)"?$/.exec(line);
    if (extent) {
      const [, access, sectors, type, file, offset = "0"] = extent;
      extents.push({
        access,
        sectors: Number(sectors),
        type,
        offset: Number(offset),
        ...(file !== undefined && { file: decoded(file) }),
      });
    } else if (ACCESS.test(line)) odd ??= line;
    else if (pair?.[1].startsWith("ddb.")) data[pair[1].slice(4)] = pair[2];
    else if (pair) values.set(pair[1].toLowerCase(), pair[2]);
    // Keys are in such a value, whatever it is called.
    if (pair?.[2].startsWith("vmware:key")) encrypted = true;
  }
  const cid = cidOf(values.get("cid"));
  const createType = values.get("createtype");
  if (cid === undefined || createType === undefined) return null;
  const hint = values.get("parentfilenamehint");
  const changeTracking = values.get("changetrackpath");
  return {
    text,
    cid,
    parentCid: cidOf(values.get("parentcid")) ?? values.get("parentcid") ?? NO_PARENT,
    createType,
    ...(hint !== undefined && { parentHint: decoded(hint) }),
    extents,
    data,
    ...(odd !== undefined && { odd }),
    ...(changeTracking !== undefined && { changeTracking }),
    encrypted,
  };
}

function cidOf(value: string | undefined): string | undefined {
  return value !== undefined && /^[0-9a-fA-F]{1,8}$/.test(value) ? value.toLowerCase().padStart(8, "0") : undefined;
}

/** Reads names, which are in the encoding that the text names: UTF-8, or a Windows code page. */
function decoder(text: string): (name: string) => string {
  const encoding = /^encoding\s*=\s*"?([\w-]+)/im.exec(text)?.[1] ?? "UTF-8";
  let known: TextDecoder;
  try {
    known = new TextDecoder(encoding);
  } catch {
    return (name) => name;
  }
  return (name) => known.decode(Uint8Array.from(name, (character) => character.charCodeAt(0)));
}

const encoded = (name: string): string => String.fromCharCode(...new TextEncoder().encode(name));

/** The name in the encoding of the text. @throws ParavaneError INVALID when that cannot say it */
function encodedFor(text: string, name: string): string {
  const decoded = decoder(text);
  const own = encoded(name);
  if (decoded(own) === name) return own;
  // A code page of one byte a character, turned round.
  const bytes = new Map(
    Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).map((one) => [decoded(one), one]),
  );
  const mapped = [...name].map((character) => bytes.get(character) ?? "").join("");
  if (decoded(mapped) === name) return mapped;
  const hint = "Give it a name of ASCII letters";
  throw invalid(`the descriptor's encoding has no way to write the name ${name}`, hint);
}

/** What of a descriptor changes; the rest stays. */
export interface DescriptorChange {
  cid?: string;
  /** Its CID and where it is; null: none. */
  parent?: { cid: string; path: string } | null;
  /** Of the last extent. */
  sectors?: number;
}

export function changedDescriptor(text: string, { cid, parent, sectors }: DescriptorChange): string {
  let made = text;
  if (cid !== undefined) made = made.replace(/^(CID\s*=\s*)[0-9a-fA-F]+/im, `$1${cid}`);
  if (parent !== undefined) {
    made = made.replace(/^parentFileNameHint\s*=[^\n]*\n?/gim, "");
    const parentCid = parent?.cid ?? NO_PARENT;
    if (!/^parentCID\s*=/im.test(made)) made = made.replace(/^CID\s*=[^\n]*\n?/im, (line) => `${line}parentCID=\n`);
    made = made.replace(/^(parentCID\s*=[ \t]*)\S*/im, `$1${parentCid}`);
    const hint = parent ? `parentFileNameHint="${encodedFor(text, parent.path)}"\n` : "";
    made = made.replace(/^createType\s*=[^\n]*\n?/im, (line) => `${line}${hint}`);
  }
  if (sectors !== undefined) {
    const last = [...made.matchAll(/^[ \t]*(?:RW|RDONLY|NOACCESS)[ \t]([ \t]*\d+)/gm)].at(-1);
    if (last) {
      const end = last.index + last[0].length;
      // What follows stays where it is, if it can: not all of the text is written at once.
      made = made.slice(0, end - last[1].length) + String(sectors).padStart(last[1].length) + made.slice(end);
    }
  }
  return made;
}

interface NewDescriptor {
  cid: string;
  parent?: { cid: string; path: string } | undefined;
  createType: string;
  extents: readonly string[];
  /** Sectors of the disk. */
  sectors: number;
  adapterType: string;
  hwVersion: string;
}

/** IDE's geometry, and that of SCSI adapters, as VMware's products reckon it. */
export function newDescriptor(disk: NewDescriptor): string {
  const heads = disk.adapterType === "ide" ? 16 : 255;
  const entry = (name: string, value: string | number) => `ddb.${name} = "${value}"`;
  return [
    "# Disk DescriptorFile",
    "version=1",
    `CID=${disk.cid}`,
    `parentCID=${disk.parent?.cid ?? NO_PARENT}`,
    `createType="${disk.createType}"`,
    ...(disk.parent ? [`parentFileNameHint="${encoded(disk.parent.path)}"`] : []),
    "",
    "# Extent description",
    ...disk.extents.map(encoded),
    "",
    "# The Disk Data Base",
    "#DDB",
    "",
    entry("virtualHWVersion", disk.hwVersion),
    entry("geometry.cylinders", Math.floor(disk.sectors / (63 * heads))),
    entry("geometry.heads", heads),
    entry("geometry.sectors", 63),
    entry("adapterType", disk.adapterType),
    entry("toolsVersion", 2 ** 31 - 1),
    "",
  ].join("\n");
}

export const newCid = (): string => {
  const [value] = crypto.getRandomValues(new Uint32Array(1));
  // All ones would say that there is none.
  return (value & 0x7fffffff).toString(16).padStart(8, "0");
};

/** A text file whose first line, comments and empty lines aside, is the version of a descriptor. */
export function isDescriptor(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head.subarray(0, 512));
  return /^# Disk DescriptorFile/.test(text) || /^(?:#[^\n]*\n|[ \r]*\n)*version=[123][ \r\n]/.test(text);
}
