import { LUKS_OPTIONS } from "./encrypt.ts";
import { qemuFormat } from "./names.ts";
import type { GivenParent } from "./parent.ts";

export interface NewImage {
  size: number;
  parent?: GivenParent | undefined;
  /** By our names. */
  options: Record<string, unknown>;
}

type Shown = [name: string, value: unknown];

/** The line that qemu-img create prints: the format's options that were given, or have a default. */
export function formattingLine(file: string, format: string, image: NewImage): string {
  const shown: Shown[] = (FIELDS[format] ?? FIELDS.raw)(image);
  const words = shown.filter(([, value]) => value !== undefined).map(([name, value]) => `${name}=${onOff(value)}`);
  return [`Formatting '${file}', fmt=${qemuFormat(format)}`, ...words].join(" ");
}

const onOff = (value: unknown) => (value === true ? "on" : value === false ? "off" : value);

const FIELDS: Record<string, (image: NewImage) => Shown[]> = {
  raw: ({ size, options }) => [
    ["size", size],
    ["preallocation", options.preallocation],
  ],
  vhd: ({ size, parent, options }) => [
    ["size", size],
    ...parentFields(parent),
    ["subformat", options.subformat],
    ["block_size", options.blockSize],
    ["force_size", options.forceSize],
  ],
  vhdx: ({ size, parent, options }) => [
    ["size", size],
    ...parentFields(parent),
    ["log_size", options.logSize ?? 2 ** 20],
    ["block_size", options.blockSize ?? 0],
    ["subformat", options.subformat],
    ["logical_sector_size", options.logicalSectorSize],
  ],
  parallels: ({ size, options }) => [
    ["size", size],
    ["cluster_size", options.clusterSize ?? 2 ** 20],
  ],
  vmdk: ({ size, parent, options }) => [
    ["size", size],
    ["adapter_type", options.adapterType],
    ...parentFields(parent),
    ["compat6", options.compat6 ?? false],
    ["hwversion", options.hwVersion ?? "undefined"],
    ["subformat", options.subformat],
    ["zeroed_grain", options.zeroedGrain],
  ],
  vdi: ({ size, parent, options }) => [
    ["size", size],
    ...parentFields(parent),
    ["static", options.subformat === "fixed"],
    ["block_size", options.blockSize],
  ],
  luks: ({ size, options }) => [
    ["size", size],
    ["preallocation", options.preallocation],
    ...encryptFields("", options),
  ],
  qcow2: ({ size, parent, options }) => [
    ["encrypt.format", options["encrypt.format"]],
    ...encryptFields("encrypt.", options),
    ["cluster_size", options.clusterSize ?? 65536],
    ["extended_l2", options.extendedL2 ?? false],
    ["preallocation", options.preallocation],
    ["compression_type", options.compressionType ?? "zlib"],
    ["size", size],
    ["compat", options.compat],
    ...parentFields(parent),
    ["data_file", options.dataFile],
    ["data_file_raw", options.dataFileRaw],
    ["lazy_refcounts", options.lazyRefcounts ?? false],
    ["refcount_bits", options.refcountBits ?? 16],
  ],
};

function encryptFields(prefix: string, options: Record<string, unknown>): Shown[] {
  return Object.keys(LUKS_OPTIONS).map((name) => [prefix + name, options[prefix + name]]);
}

function parentFields(parent: GivenParent | undefined): Shown[] {
  return parent
    ? [
        ["backing_file", parent.name],
        ["backing_fmt", parent.format],
      ]
    : [];
}
