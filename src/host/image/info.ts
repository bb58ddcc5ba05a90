import type { SnapshotInfo } from "../../core/format.ts";
import type { Disk } from "../block/open.ts";
import { listSnapshots } from "./snapshot.ts";
import { engineOf } from "./whole.ts";

/** What an image is, whatever its format. */
export interface ImageInfo {
  format: string;
  /** Bytes that a guest sees, and those of a sector. */
  size: number;
  sectorSize: number;
  /** Bytes that the format allocates together, where it does. */
  clusterSize?: number;
  /** It was not closed, and is mended, or replayed, before it is next written. */
  dirty: boolean;
  /** Where the parent may be, best guess first, as the image says it; and its format, where it does. */
  parentPaths: readonly string[];
  parentFormat?: string;
  snapshots: readonly SnapshotInfo[];
  /** All else that the format says of itself, JSON-safe. */
  details: Record<string, unknown>;
}

const GENERAL = ["format", "size", "sectorSize", "clusterSize", "blockSize", "dirty", "snapshots", "store", "readOnly"];

/** What an opened image is; its parents are another question. Nothing is read. */
export function imageInfo(disk: Disk): ImageInfo {
  const facts = disk.describe();
  const cluster = facts.clusterSize ?? facts.blockSize;
  const parent = disk.parent;
  const details = Object.entries(facts).filter(([name]) => !GENERAL.includes(name));
  return {
    format: disk.format,
    size: disk.size,
    sectorSize: disk.sectorSize,
    ...(typeof cluster === "number" && { clusterSize: cluster }),
    dirty: facts.dirty === true,
    parentPaths: parent?.paths ?? [],
    ...(parent?.format !== undefined && { parentFormat: parent.format }),
    snapshots: listSnapshots(disk),
    details: Object.fromEntries(details),
  };
}

/** The images of an opened chain, from the one that was opened down to the last parent. */
export function chainOf(disk: Disk): Disk[] {
  const { backing } = engineOf(disk);
  return [disk, ...(backing && "describe" in backing ? chainOf(backing as Disk) : [])];
}
