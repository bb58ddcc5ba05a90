import { Engine } from "../../../host/block/engine.ts";
import type { Disk } from "../../../host/block/open.ts";
import type { Place } from "../../../host/block/places.ts";
import { type CopyOptions, copyDisk } from "../../../host/image/copy.ts";
import { mapDisk } from "../../../host/image/map.ts";
import { packDisk, packingOf } from "../../../host/image/pack.ts";
import type { TaskOptions } from "../../../host/image/task.ts";
import { engineOf } from "../../../host/image/whole.ts";
import { compressor } from "../../../node/compress.ts";
import { sameFile } from "./files.ts";

export interface Source {
  disk: Disk;
  /** How deep in its chain the target's parent is: what lies there needs no copy. */
  base?: number;
}

export interface CopyAllOptions extends TaskOptions {
  /** The target reads as zeros. */
  fresh: boolean;
  sparse: number;
  compress: boolean;
  /** Bytes moved a second, at most. */
  rate?: number;
  /** Of a single source, the parts to copy. */
  parts?: CopyOptions["parts"];
}

/** How deep in the disk's chain the image in `path` is: 1 for its parent; `undefined` when it is not there. */
export function depthOf(disk: Disk, path: string): number | undefined {
  let depth = 0;
  for (let below = disk.backing; below instanceof Engine; below = (below as unknown as Disk).backing) {
    depth++;
    if (sameFile(below.store.name, path)) return depth;
  }
  return undefined;
}

/** Writes the sources one after the other. */
export async function copyAll(sources: readonly Source[], target: Disk, options: CopyAllOptions): Promise<void> {
  const { fresh, sparse, compress, signal, onProgress, rate, parts } = options;
  const skipIn = (base: number | undefined, { depth, kind }: Place) =>
    base !== undefined && (depth >= base || kind === "hole");
  if (compress || engineOf(target).image.packing?.only) {
    const compress = compressor(packingOf(target));
    const bases = new Map(sources.map(({ disk, base }) => [disk, base]));
    const disks = sources.map(({ disk }) => disk);
    const skip = (place: Place, source: Disk) => skipIn(bases.get(source), place);
    const task = { ...(signal && { signal }), ...(onProgress && { onProgress }) };
    try {
      await packDisk(disks, target, { ...task, compress, fresh, zeros: sparse === 0, skip });
    } finally {
      compress.close?.();
    }
    return;
  }
  const total = sources.reduce((sum, { disk }) => sum + disk.size, 0);
  let to = 0;
  for (const { disk, base } of sources) {
    const begin = to;
    const task = (from: number): TaskOptions => ({
      ...(signal && { signal }),
      ...(onProgress && { onProgress: (done: number) => onProgress(begin + from + done, total) }),
    });
    if (base === undefined) {
      const limits = { ...(rate !== undefined && { rate }), ...(parts && { parts }) };
      await copyDisk(disk, target, { ...task(0), to, fresh, sparse, ...limits });
    } else {
      for await (const run of mapDisk(disk, signal ? { signal } : {})) {
        if (skipIn(base, run)) continue;
        const { start, length } = run;
        await copyDisk(disk, target, { ...task(start), from: start, to: to + start, length, fresh, sparse });
      }
    }
    to += disk.size;
  }
}

/** Does the image show its parent in all places, which is in `path`? */
export async function isEmptyOver(target: Disk, path: string): Promise<boolean> {
  if (depthOf(target, path) !== 1) return false;
  for await (const { depth, kind } of mapDisk(target)) if (depth === 0 && kind !== "hole") return false;
  return true;
}
