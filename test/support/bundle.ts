import type { Format } from "../../src/core/format.ts";
import type { Store } from "../../src/core/store.ts";
import { createDisk, type Disk, type OpenDiskOptions, openDisk } from "../../src/host/block/open.ts";
import { parallelsBundle } from "../../src/host/format/parallels-bundle/index.ts";
import { KeptStore } from "./disks.ts";

const [TOP, FIRST, NONE] = ["5fbaabe3-6958-40ff-92a7-860e329aab41", "11111111-2222-3333-4444-555555555555", "0"].map(
  (id) => `{${id === "0" ? "00000000-0000-0000-0000-000000000000" : id}}`,
);

/** The descriptor of a disk that is one file, or one over the plain file of a snapshot. */
function descriptorOf(size: number, over: boolean): Uint8Array {
  const image = (guid: string, type: string, file: string) =>
    `<Image><GUID>${guid}</GUID><Type>${type}</Type><File>${file}</File></Image>`;
  const shot = (guid: string, parent: string) => `<Shot><GUID>${guid}</GUID><ParentGUID>${parent}</ParentGUID></Shot>`;
  const sectors = size / 512;
  return new TextEncoder().encode(`<?xml version='1.0' encoding='UTF-8'?>
<Parallels_disk_image Version="1.0">
  <Disk_Parameters><Disk_size>${sectors}</Disk_size><Cylinders>1</Cylinders><Heads>16</Heads></Disk_Parameters>
  <StorageData><Storage><Start>0</Start><End>${sectors}</End>
    ${image(TOP, "Compressed", "top.hds")}${over ? image(FIRST, "Plain", "first.hds") : ""}
  </Storage></StorageData>
  <Snapshots>${shot(TOP, over ? FIRST : NONE)}${over ? shot(FIRST, NONE) : ""}</Snapshots>
</Parallels_disk_image>`);
}

const opener = (top: Store, first?: Store) => ({
  openFile: (name: string) => (name === "top.hds" ? top : first!),
});

/** Of the bundle's files only the newest is changed, which suites that damage, fail or cut a store may have as theirs. */
export function openBundle(top: Store, size: number, first?: Store, options: OpenDiskOptions = {}): Promise<Disk> {
  return openDisk(new KeptStore(descriptorOf(size, first !== undefined)), { ...options, ...opener(top, first) });
}

export async function createBundle(top: Store, size: number, first?: Store, clusterSize = 65536): Promise<Disk> {
  await (await createDisk(top, { format: "parallels", size, clusterSize })).close();
  return openBundle(top, size, first);
}

/** Checks the bundle that has this newest file. */
export function bundleFormat(size: number, first?: Store): Format {
  const descriptor = () => new KeptStore(descriptorOf(size, first !== undefined));
  return {
    ...parallelsBundle,
    check: (store) => parallelsBundle.check!(descriptor(), opener(store, first)),
    repair: (store, what) => parallelsBundle.repair!(descriptor(), what, opener(store, first)),
  };
}
