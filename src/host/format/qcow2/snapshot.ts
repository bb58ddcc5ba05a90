import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { SnapshotInfo } from "../../../core/format.ts";
import { l1Entries, MAX_SNAPSHOTS, SECTOR } from "./header.ts";
import type { Qcow2Image } from "./image.ts";
import { findSnapshot, type Snapshot } from "./snapshot-table.ts";

// Each of these makes all that was written so far durable, then moves to the new state in one write of the header. Nothing
// else may use the image meanwhile.

/** Internal snapshots, oldest first. */
export function listSnapshots({ volume: { snapshots } }: Qcow2Image): readonly SnapshotInfo[] {
  return snapshots.map(({ id, name, date, diskSize, stateSize, clock, instructions }) => ({
    id,
    name,
    date,
    ...(diskSize === undefined ? {} : { diskSize }),
    ...(instructions !== undefined && { instructions }),
    stateSize,
    clock,
  }));
}

/**
 * Keeps the disk as it is now under a name.
 * @throws ParavaneError UNSUPPORTED (data file; refcounts too narrow), NO_SPACE (65,536 of them), READ_ONLY, INVALID
 */
export function* createSnapshot(image: Qcow2Image, options: { name: string; date?: number }): Flow<SnapshotInfo> {
  yield* settle(image);
  const { header, snapshots, store } = image.volume;
  if (snapshots.length >= MAX_SNAPSHOTS) {
    throw new ParavaneError("NO_SPACE", `the image has ${MAX_SNAPSHOTS} snapshots, the most there can be`, {
      file: store.name,
    });
  }
  if (new TextEncoder().encode(options.name).length > 0xffff)
    throw new ParavaneError("INVALID", "the name is too long");
  const numbers = snapshots.map(({ id }) => (/^\d+$/.test(id) ? Number(id) : 0));
  const snapshot: Snapshot = {
    id: String(Math.max(0, ...numbers) + 1),
    name: options.name,
    date: options.date ?? Date.now(),
    clock: 0n,
    stateSize: 0,
    diskSize: header.size,
    l1Position: header.l1Position,
    l1Size: header.l1Size,
    tableBytes: 0,
    more: new Uint8Array(0),
  };
  yield* image.move({ ...image.state, snapshots: [...snapshots, snapshot] });
  return listSnapshots(image)[snapshots.length];
}

/** Makes the disk what it was, size included; the snapshot stays. @throws ParavaneError NOT_FOUND, READ_ONLY, UNSUPPORTED */
export function* applySnapshot(image: Qcow2Image, idOrName: string): Flow {
  if (image.bitmaps.any) {
    const hint = "Remove them first: paravane img bitmap --remove-all";
    const what = "the disk has dirty bitmaps, which would not be right any more";
    throw new ParavaneError("UNSUPPORTED", what, { file: image.volume.store.name }, { hint });
  }
  yield* settle(image);
  const { header, snapshots, store } = image.volume;
  const { l1Position, l1Size, diskSize = header.size } = findSnapshot(store, snapshots, idOrName);
  const size = Math.floor(diskSize / SECTOR) * SECTOR;
  const entries = Math.max(l1Size, l1Entries({ ...header, size }));
  yield* image.move({ size, l1: { position: l1Position, size: l1Size, entries }, snapshots });
}

/** Gives the space back that only the snapshot uses. @throws ParavaneError NOT_FOUND, READ_ONLY */
export function* deleteSnapshot(image: Qcow2Image, idOrName: string): Flow {
  yield* settle(image);
  const { snapshots, store } = image.volume;
  const gone = findSnapshot(store, snapshots, idOrName);
  yield* image.move({ ...image.state, snapshots: snapshots.filter((snapshot) => snapshot !== gone) });
}

function* settle(image: Qcow2Image): Flow {
  if (image.volume.data) {
    throw new ParavaneError("UNSUPPORTED", "an image with a data file cannot have internal snapshots", {
      file: image.volume.store.name,
    });
  }
  yield* image.settle();
}
