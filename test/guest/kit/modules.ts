import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";

/** Drivers that the guests load, in this order; what each depends on comes before it. */
const WANTED = [
  ...["ata_piix", "ata_generic", "sd_mod", "sr_mod", "sg"],
  ...["virtio_pci", "virtio_blk", "virtio_scsi", "vmw_pvscsi"],
  ...["crc32c_generic", "ext4", "isofs"],
];

/** Loaded when the command line asks: a disk without a device, which shows what a guest's own block layer costs. */
export const OPTIONAL = ["null_blk"];

/** Kernel modules below `folder`, each after those that it needs: paths. */
export function modulesOf(folder: string): string[] {
  const found = new Map<string, string>();
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.name.endsWith(".ko")) found.set(nameOf(entry.name), join(entry.parentPath, entry.name));
  }
  const order: string[] = [];
  const add = (name: string, wanted: boolean) => {
    const path = found.get(name);
    if (!path) {
      // What a module depends on may be built into the kernel.
      if (wanted) throw new Error(`this kernel has no module ${name}`);
      return;
    }
    if (order.includes(path)) return;
    for (const each of dependenciesOf(path)) add(each, false);
    order.push(path);
  };
  for (const name of [...WANTED, ...OPTIONAL]) add(name, true);
  return order;
}

const nameOf = (file: string) => basename(file, ".ko").replaceAll("-", "_");

/** `.modinfo` holds "name=value" strings, one after the other. */
function dependenciesOf(path: string): string[] {
  const [, list = ""] = /\0depends=([^\0]*)\0/.exec(readFileSync(path, "latin1")) ?? [];
  return list
    .split(",")
    .filter((name) => name !== "")
    .map((name) => name.replaceAll("-", "_"));
}
