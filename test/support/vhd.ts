import { execFileSync } from "node:child_process";
import type { Store } from "../../src/core/store.ts";
import type { Disk } from "../../src/host/block/open.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";

export const MiB = 2 ** 20;
export const GiB = 2 ** 30;
export const SECTOR = 512;

/** A differencing disk over what is in `parent`. */
export async function createChild(
  store: Store,
  parent: () => Promise<Disk>,
  options: { size: number; path?: string; absolutePath?: string; blockSize?: number },
): Promise<Disk> {
  const { path = ".\\parent.vhd", absolutePath, ...rest } = options;
  const backing = await parent();
  const identity = String(backing.describe().uuid);
  return createDisk(store, { format: "vhd", ...rest, parent: { path, absolutePath, identity }, backing });
}

export async function openChild(store: Store, parent: () => Promise<Disk>, readOnly = false): Promise<Disk> {
  return openDisk(store, { format: "vhd", readOnly, backing: await parent() });
}

/** One image, with those it is based on after it, and the runs of it that must be filled with one byte. */
export interface ByteCheck {
  chain: string[];
  size: number;
  runs: [offset: number, length: number, fill: number][];
}

const LIBVHDI = `
import json, sys, pyvhdi
for check in json.load(sys.stdin):
    files = []
    for path in check["chain"]:
        file = pyvhdi.file()
        file.open(path)
        files.append(file)
    for child, parent in zip(files, files[1:]):
        child.set_parent(parent)
    top = files[0]
    if top.get_media_size() != check["size"]:
        print(check["chain"][0], "has", top.get_media_size(), "bytes, not", check["size"])
    for offset, length, fill in check["runs"]:
        read = top.read_buffer_at_offset(length, offset)
        if read != bytes([fill]) * length:
            print(check["chain"][0], "differs in", length, "bytes at", offset, "wanted", fill, "found", read[:1])
    for file in files:
        file.close()
`;

/** What libvhdi says is wrong with the images; "" when nothing. One process for all of them. */
export function byLibvhdi(checks: ByteCheck[]): string {
  return execFileSync("/usr/bin/python3", ["-c", LIBVHDI], {
    input: JSON.stringify(checks),
    encoding: "utf8",
    maxBuffer: 1 << 26,
  });
}
