import { UsageError } from "../../usage.ts";
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
/** Accepted where ours always is as it asks for. */
const only =
  (...values: string[]): Convert =>
  (value, name) => {
    if (values.includes(value)) return undefined;
    throw new UsageError(`option ${name}=${value} is not supported; ${name}=${values[0]} is`);
  };

/** qemu-img's `-o` names: ours, and how the text is read. An empty name: only checked. */
const OPTIONS: Record<string, Record<string, [ours: string, convert: Convert, help: string]>> = {
  raw: { size: ["size", size, "bytes"], preallocation: ["", only("off"), "off"] },
  vhd: {
    size: ["size", size, "bytes"],
    subformat: ["subformat", text, "dynamic or fixed"],
    force_size: ["", onOff, "accepted: sizes are always exact"],
    block_size: ["blockSize", size, "bytes a dynamic disk grows by"],
  },
  vhdx: {
    size: ["size", size, "bytes"],
    subformat: ["subformat", text, "dynamic or fixed"],
    block_size: ["blockSize", size, "bytes a dynamic disk grows by"],
    log_size: ["logSize", size, "bytes of the metadata log"],
    logical_sector_size: ["logicalSectorSize", size, "512 or 4096"],
    block_state_zero: ["", onOff, "accepted"],
  },
  qcow2: {
    size: ["size", size, "bytes"],
    cluster_size: ["clusterSize", size, "bytes"],
    compat: ["compat", text, "0.10 (v2) or 1.1 (v3)"],
    compression_type: ["compressionType", text, "zlib or zstd"],
    refcount_bits: ["refcountBits", (value, name) => sizeOf(value, name), "1 to 64"],
    lazy_refcounts: ["lazyRefcounts", onOff, "on or off"],
    extended_l2: ["extendedL2", onOff, "on or off: subclusters"],
    preallocation: ["", only("off"), "off"],
    backing_file: ["backingFile", text, "the parent"],
    backing_fmt: ["backingFormat", (value) => value, "the parent's format, in QEMU's words"],
  },
};

/** "a=b,c=d" (a comma in a value is written twice) as the format's own options. @throws UsageError */
export function formatOptions(format: string, lists: readonly string[]): Record<string, unknown> {
  const known = OPTIONS[format] ?? {};
  const options: Record<string, unknown> = {};
  for (const list of lists) {
    for (const part of list.replaceAll(",,", "\0").split(",")) {
      if (part === "") continue;
      const [name, ...rest] = part.replaceAll("\0", ",").split("=");
      const found = known[name];
      if (!found) {
        const names = Object.keys(known).join(", ");
        throw new UsageError(`${qemuFormat(format)} images have no option "${name}"; known: ${names}`);
      }
      const value = found[1](rest.length === 0 ? "on" : rest.join("="), name);
      if (found[0] !== "") options[found[0]] = value;
    }
  }
  return options;
}
