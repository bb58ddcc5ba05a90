import { FORMATS } from "../../../host/format/index.ts";
import { UsageError } from "../../usage.ts";
import { LUKS_OPTIONS } from "./encrypt.ts";
import { sizeOf } from "./options.ts";

/** QEMU's names of formats, and ours. */
const OURS: Record<string, string> = { vpc: "vhd" };
const QEMU: Record<string, string> = { vhd: "vpc" };

export function ourFormat(name: string): string;
export function ourFormat(name: string | undefined): string | undefined;
export function ourFormat(name: string | undefined): string | undefined {
  return name === undefined ? undefined : (OURS[name] ?? name);
}

/** As qemu-img prints it. */
export function qemuFormat(name: string): string {
  return QEMU[name] ?? name;
}

type Convert = (text: string, name: string) => unknown;

const size: Convert = (text, name) => sizeOf(text, name);
const text: Convert = (value) => value;
const onOff: Convert = (value, name) => {
  if (["on", "yes", "true", "y"].includes(value)) return true;
  if (["off", "no", "false", "n"].includes(value)) return false;
  throw new UsageError(`option ${name} is on or off, not "${value}"`);
};
/** The format's own name of it. */
const format: Convert = (value) => value;
const PREALLOCATION: Row = ["preallocation", text, "off, metadata, falloc or full"];
const SIZE: Row = ["size", size, "virtual disk size, in bytes"];

type Row = [ours: string, convert: Convert, help: string];

function encryptionRows(prefix: string): Record<string, Row> {
  const rows = Object.entries(LUKS_OPTIONS).map(([name, help]) => [prefix + name, [prefix + name, text, help] as Row]);
  return Object.fromEntries(rows);
}

/** qemu-img's `-o` names: ours, and how the text is read. An empty name: only checked. */
const OPTIONS: Record<string, Record<string, Row>> = {
  luks: {
    size: SIZE,
    ...encryptionRows(""),
    preallocation: ["preallocation", text, "off; full: reads as zeros; falloc: only room for it"],
    version: ["version", (value) => Number(value), "1 (default), or 2, which qemu-img does not know"],
    pbkdf: ["pbkdf", text, "version 2: argon2id (default) or pbkdf2"],
    sector_size: ["sectorSize", size, "version 2: 512 (default) to 4096"],
  },
  raw: { size: SIZE, preallocation: ["preallocation", text, "off, falloc or full"] },
  vhd: {
    size: SIZE,
    subformat: ["subformat", text, "dynamic or fixed"],
    force_size: ["forceSize", onOff, "on (default): the size to the byte; off: rounded up to a CHS geometry"],
    block_size: ["blockSize", size, "bytes a dynamic disk grows by"],
    backing_file: ["backingFile", text, "the parent: a differencing disk"],
    backing_fmt: ["backingFormat", format, "the parent's format"],
  },
  vhdx: {
    size: SIZE,
    subformat: ["subformat", text, "dynamic or fixed"],
    block_size: ["blockSize", (value, name) => sizeOf(value, name) || undefined, "bytes a dynamic disk grows by"],
    log_size: ["logSize", size, "bytes of the metadata log"],
    logical_sector_size: ["logicalSectorSize", size, "512 or 4096"],
    block_state_zero: ["", onOff, "accepted; blocks that were never written always read as zeros"],
    backing_file: ["backingFile", text, "the parent: a differencing disk"],
    backing_fmt: ["backingFormat", format, "the parent's format"],
  },
  parallels: { size: SIZE, cluster_size: ["clusterSize", size, "bytes that the disk grows by"] },
  vmdk: {
    size: SIZE,
    subformat: [
      "subformat",
      text,
      "monolithicSparse (default), monolithicFlat, twoGbMaxExtentSparse, twoGbMaxExtentFlat, vmfs, vmfsSparse or streamOptimized",
    ],
    adapter_type: ["adapterType", text, "ide (default), buslogic, lsilogic or legacyESX"],
    hwversion: ["hwVersion", text, "virtual hardware version, 4 by default"],
    compat6: ["compat6", onOff, "hwversion=6"],
    zeroed_grain: ["zeroedGrain", onOff, "grains of zeros that others wrote are read as such"],
    backing_file: ["backingFile", text, "the parent: a differencing disk"],
    backing_fmt: ["backingFormat", format, "the parent's format"],
  },
  vdi: {
    size: SIZE,
    static: [
      "subformat",
      (value, name) => (onOff(value, name) ? "fixed" : "dynamic"),
      "on or off: all space is taken at once",
    ],
    block_size: ["blockSize", size, "bytes a dynamic disk grows by; QEMU reads 1M only"],
    backing_file: ["backingFile", text, "the parent: a differencing disk"],
    backing_fmt: ["backingFormat", format, "the parent's format"],
  },
  qcow2: {
    size: SIZE,
    "encrypt.format": ["encrypt.format", text, "luks"],
    ...encryptionRows("encrypt."),
    cluster_size: ["clusterSize", size, "bytes"],
    compat: ["compat", text, "0.10 (v2) or 1.1 (v3)"],
    compression_type: ["compressionType", text, "zlib or zstd"],
    refcount_bits: ["refcountBits", size, "1 to 64"],
    lazy_refcounts: ["lazyRefcounts", onOff, "on or off"],
    extended_l2: ["extendedL2", onOff, "on or off: subclusters"],
    preallocation: PREALLOCATION,
    data_file: ["dataFile", text, "keeps the data in this file"],
    data_file_raw: ["dataFileRaw", onOff, "on or off: that file is the whole disk, raw"],
    backing_file: ["backingFile", text, "the parent"],
    backing_fmt: ["backingFormat", format, "the parent's format"],
  },
};

/** What qemu-img passes on to the host's file system; there is nothing to pass on here. */
const FILE_OPTIONS: Record<string, Row> = { nocow: ["", onOff, ""], extent_size_hint: ["", size, ""] };

/** For `-o help`. @param among which of the format's own options, by our names @param more others */
export function optionHelp(format: string, among = (_: string) => true, more: Record<string, string> = {}): string {
  const own = Object.entries(OPTIONS[format] ?? {}).filter(([, [ours]]) => among(ours));
  const all = [...own.map(([name, [, , help]]) => [name, help]), ...Object.entries(more)];
  const rows = all.sort(([a], [b]) => (a < b ? -1 : 1));
  const wide = Math.max(...rows.map(([name]) => name.length));
  return [
    `Supported ${qemuFormat(format)} options:`,
    ...rows.map(([name, help]) => `  ${name.padEnd(wide)} - ${help}`),
  ].join("\n");
}

/** @throws UsageError for a format that images are not made of */
export function checkMade(format: string): void {
  if (Object.hasOwn(OPTIONS, format)) return;
  const known = Object.keys(OPTIONS).map(qemuFormat).join(", ");
  if (FORMATS.some(({ name }) => name === format))
    throw new UsageError(`${qemuFormat(format)} images are only read, not made; made are ${known}`);
  throw new UsageError(`Unknown file format '${qemuFormat(format)}'; made are ${known}`);
}

/** What qemu-img calls one of the format's own options. */
export function qemuOption(format: string, ours: string): string {
  return Object.entries(OPTIONS[format] ?? {}).find(([, [name]]) => name === ours)?.[0] ?? ours;
}

/** "a=b,c=d" (a comma in a value is written twice) as the format's own options. @throws UsageError */
export function formatOptions(format: string, lists: readonly string[]): Record<string, unknown> {
  const known = OPTIONS[format] ?? {};
  const options: Record<string, unknown> = {};
  for (const list of lists) {
    for (const part of list.replaceAll(",,", "\0").split(",")) {
      if (part === "") continue;
      const [name, ...rest] = part.replaceAll("\0", ",").split("=");
      const found = known[name] ?? FILE_OPTIONS[name];
      if (!found) {
        const names = Object.keys(known).join(", ");
        throw new UsageError(`${qemuFormat(format)} images have no option "${name}"; known: ${names}`);
      }
      const value = found[1](rest.length === 0 ? "on" : rest.join("="), name);
      if (value === undefined) delete options[found[0]];
      else if (found[0] !== "") options[found[0]] = value;
    }
  }
  return options;
}
