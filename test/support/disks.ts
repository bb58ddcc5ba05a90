import type { Block } from "../../src/core/block.ts";
import type { Store } from "../../src/core/store.ts";
import { encryptBlock, unlockBlock } from "../../src/host/block/luks.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { overlay } from "../../src/host/block/overlay.ts";
import { withFaults } from "../../src/host/filter/fault.ts";
import { luks } from "../../src/host/format/luks/index.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { blank } from "./blank.ts";
import { createBundle, openBundle } from "./bundle.ts";
import { createTwo, openTwo } from "./two-files.ts";

/** A store that outlives the disk over it, so that what the disk left can be opened again. */
export class KeptStore extends MemoryStore {
  override close(): void {}
}

/** One implementation of Block, for the suites that every block must pass. */
export interface DiskCase {
  name: string;
  /** Takes stores as they are, and the same ones as the test wants them seen (late, failing). */
  open(stores: Stores, size: number): Promise<Block>;
  /** What was written is still there when it is opened again over the same stores. */
  keeps: boolean;
}

export interface Stores {
  first: KeptStore;
  second: KeptStore;
  seen(store: Store): Store;
}

export function stores(seen: (store: Store) => Store = (store) => store): Stores {
  return { first: new KeptStore(), second: new KeptStore(), seen };
}

function image(name: string, format: string, options: Record<string, unknown> = {}): DiskCase {
  return {
    name,
    keeps: true,
    async open({ first, seen }, size) {
      if (first.size === 0) await (await createDisk(first, { format, size, ...options })).close();
      return openDisk(seen(first), { format });
    },
  };
}

/** The key of the data itself: no passphrase, which would take its time. */
export const VOLUME_KEY = { volumeKey: Uint8Array.from({ length: 64 }, (_, i) => i * 5 + 1) };
/** An encrypted qcow2 image. */
export const QCOW2_LUKS = { encryption: { iterations: 1000 } };
/** A new LUKS image that reads as zeros. */
export const LUKS = { iterations: 1000, preallocation: "full" };

/** Every Block there is. A new format or filter joins the suites by being listed here. */
export const DISKS: DiskCase[] = [
  image("raw", "raw"),
  image("vhd, dynamic", "vhd"),
  image("vhd, dynamic, small blocks", "vhd", { blockSize: 4096 * 4 }),
  image("vhd, fixed", "vhd", { subformat: "fixed" }),
  {
    name: "vhd over vhd",
    keeps: true,
    async open({ first, second, seen }, size) {
      if (first.size === 0) {
        const parent = await createDisk(second, { format: "vhd", size });
        const { uuid } = parent.describe();
        await parent.close();
        const backing = await openDisk(second, { readOnly: true });
        await (
          await createDisk(first, { format: "vhd", size, parent: { identity: String(uuid), path: "x" }, backing })
        ).close();
      }
      return openDisk(seen(first), { backing: await openDisk(seen(second), { readOnly: true }) });
    },
  },
  image("vhdx, dynamic", "vhdx"),
  image("vhdx, dynamic, small blocks, long log", "vhdx", { blockSize: 2 ** 20, logSize: 3 * 2 ** 20 }),
  image("vhdx, fixed", "vhdx", { subformat: "fixed" }),
  {
    name: "vhdx over vhdx",
    keeps: true,
    async open({ first, second, seen }, size) {
      if (first.size === 0) {
        const parent = await createDisk(second, { format: "vhdx", size });
        const { dataWriteGuid } = parent.describe();
        await parent.close();
        const backing = await openDisk(second, { readOnly: true });
        await (
          await createDisk(first, {
            format: "vhdx",
            size,
            parent: { identity: String(dataWriteGuid), path: "x" },
            backing,
          })
        ).close();
      }
      return openDisk(seen(first), { backing: await openDisk(seen(second), { readOnly: true }) });
    },
  },
  image("parallels", "parallels"),
  image("parallels, small clusters", "parallels", { clusterSize: 4096 }),
  {
    name: "parallels bundle, over a snapshot",
    keeps: true,
    async open({ first, second, seen }, size) {
      if (second.size === 0) second.resize(size);
      if (first.size === 0) await (await createBundle(first, size, second, 4096)).close();
      return openBundle(seen(first), size, seen(second));
    },
  },
  image("vmdk", "vmdk"),
  {
    name: "vmdk, monolithicFlat",
    keeps: true,
    async open({ first, seen }, size) {
      if (first.size === 0) await (await createTwo(first, { size, subformat: "monolithicFlat" })).close();
      return openTwo(seen(first));
    },
  },
  image("vdi, dynamic", "vdi"),
  image("vdi, dynamic, small blocks", "vdi", { blockSize: 4096 * 4 }),
  image("vdi, fixed", "vdi", { subformat: "fixed" }),
  {
    name: "vdi over vdi",
    keeps: true,
    async open({ first, second, seen }, size) {
      if (first.size === 0) {
        const parent = await createDisk(second, { format: "vdi", size });
        const { uuid, modificationUuid } = parent.describe();
        await parent.close();
        const backing = await openDisk(second, { readOnly: true });
        const identity = `${uuid}/${modificationUuid}`;
        await (await createDisk(first, { format: "vdi", size, parent: { identity, path: "x" }, backing })).close();
      }
      return openDisk(seen(first), { backing: await openDisk(seen(second), { readOnly: true }) });
    },
  },
  image("qcow2", "qcow2"),
  image("qcow2, version 2", "qcow2", { compat: "0.10" }),
  image("qcow2, small clusters, wide refcounts", "qcow2", { clusterSize: 4096, refcountBits: 64 }),
  image("qcow2, subclusters", "qcow2", { extendedL2: true, clusterSize: 32768, refcountBits: 1 }),
  {
    name: "qcow2 over qcow2, subclusters",
    keeps: true,
    async open({ first, second, seen }, size) {
      const qcow2 = { format: "qcow2", size, extendedL2: true };
      if (first.size === 0) {
        await (await createDisk(second, { format: "qcow2", size: Math.max(512, size - 4096) })).close();
        const backing = await openDisk(second);
        await (await createDisk(first, { ...qcow2, backingFile: "parent", backing })).close();
      }
      return openDisk(seen(first), { format: "qcow2", backing: await openDisk(seen(second), { readOnly: true }) });
    },
  },
  {
    name: "qcow2 with LUKS, subclusters",
    keeps: true,
    async open({ first, seen }, size) {
      const options = { size, extendedL2: true, ...QCOW2_LUKS };
      if (first.size === 0) await (await createDisk(first, { format: "qcow2", ...options, ...VOLUME_KEY })).close();
      return openDisk(seen(first), { format: "qcow2", ...VOLUME_KEY });
    },
  },
  {
    name: "luks",
    keeps: true,
    async open({ first, seen }, size) {
      const luks = { format: "luks", ...VOLUME_KEY };
      if (first.size === 0) await (await createDisk(first, { ...luks, size, iterations: 1000 })).close();
      return blank(await openDisk(seen(first), luks), first);
    },
  },
  {
    name: "luks on a vhd",
    keeps: true,
    async open({ first, seen }, size) {
      if (first.size === 0) {
        const header = luks.measure!({ size: 0, iterations: 1000 }).bytes(0);
        const disk = await createDisk(first, { format: "vhd", size: header + size });
        await (await encryptBlock(disk, { iterations: 1000, ...VOLUME_KEY })).close();
      }
      return blank(await unlockBlock(await openDisk(seen(first), { format: "vhd" }), VOLUME_KEY), first);
    },
  },
  {
    name: "overlay over vhd",
    keeps: false,
    async open({ first, second, seen }, size) {
      if (first.size === 0) await (await createDisk(first, { format: "vhd", size })).close();
      return overlay(await openDisk(seen(first), { format: "vhd" }), seen(second));
    },
  },
  {
    name: "fault filter with nothing to fail, over raw",
    keeps: true,
    async open({ first, seen }, size) {
      if (first.size === 0) await (await createDisk(first, { format: "raw", size })).close();
      const block = withFaults(await openDisk(seen(first), { format: "raw" }));
      block.fail({ cause: "io", from: 2 ** 52 });
      block.fail({ cause: "io", ops: [] });
      return block;
    },
  },
];
