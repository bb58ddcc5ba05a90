import { ParavaneError } from "../../core/error.ts";
import type { Image, SnapshotInfo, Snapshots } from "../../core/format.ts";
import type { Disk } from "../block/open.ts";
import { engineOf } from "./whole.ts";

/** The states of the disk kept inside its image, oldest first; none where the format keeps none. */
export function listSnapshots(disk: Disk): readonly SnapshotInfo[] {
  return engineOf(disk).image.snapshots?.list() ?? [];
}

/**
 * Keeps the disk as it is now, durably. What is submitted meanwhile waits.
 * @throws ParavaneError UNSUPPORTED (by the format), READ_ONLY, NO_SPACE, INVALID
 */
export function createSnapshot(disk: Disk, options: { name: string; date?: number }): Promise<SnapshotInfo> {
  return engineOf(disk).exclusive((image) => snapshotsOf(image, disk).create(options));
}

/** Makes the disk what it was, size included; the snapshot stays. @throws ParavaneError NOT_FOUND, UNSUPPORTED, NO_SPACE */
export function applySnapshot(disk: Disk, idOrName: string): Promise<void> {
  return engineOf(disk).exclusive((image) => snapshotsOf(image, disk).apply(idOrName));
}

/** Gives the space back that only this snapshot uses. @throws ParavaneError NOT_FOUND, UNSUPPORTED, NO_SPACE */
export function deleteSnapshot(disk: Disk, idOrName: string): Promise<void> {
  return engineOf(disk).exclusive((image) => snapshotsOf(image, disk).delete(idOrName));
}

function snapshotsOf(image: Image, disk: Disk): Snapshots {
  if (image.snapshots) return image.snapshots;
  throw new ParavaneError("UNSUPPORTED", `${disk.format} images keep no snapshots inside them`);
}
