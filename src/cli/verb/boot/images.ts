import { randomUUID } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Disk } from "../../../host/block/open.ts";
import { createOverlay, overlay } from "../../../host/block/overlay.ts";
import type { IdeDrive } from "../../../host/device/ide/controller.ts";
import type { Disc } from "../../../host/media/disc.ts";
import { cdFromBlock } from "../../../host/media/image.ts";
import { FileStore } from "../../../host/store/file.ts";
import { openCueFile } from "../../../node/cue.ts";
import type { AttachOptions } from "../../../v86/index.ts";
import { openImage } from "../img/files.ts";
import { notOpened } from "../img/open.ts";
import type { BootOptions, DiskModel } from "./options.ts";

/** A disk as the guest has it; `image` is what snapshots are made in, where there is one. */
export interface BootDisk {
  path: string;
  block: Block;
  image: Disk | null;
  close(): Promise<void>;
}

/** Opens the disks, each below whatever is to take the guest's changes. */
export async function openDisks(given: BootOptions, onWarning: (text: string) => void): Promise<BootDisk[]> {
  const disks: BootDisk[] = [];
  try {
    for (const [i, path] of given.images.entries()) {
      disks.push(await openDisk(path, i === 0 ? given : { ...given, overlay: undefined }, onWarning));
    }
  } catch (thrown) {
    for (const each of disks) await each.close();
    throw thrown;
  }
  return disks;
}

async function openDisk(path: string, given: BootOptions, onWarning: (text: string) => void): Promise<BootDisk> {
  const { format, allow, snapshot, overlay: over } = given;
  const write = !snapshot && over === undefined;
  const name = over !== undefined && existsSync(over) ? over : path;
  try {
    const options = { ...(format !== undefined && { format }), allow, onWarning };
    if (name === over) return await plain(over, { allow: [...allow, dirname(path)], onWarning, write: true });
    if (write) return await plain(path, { ...options, write });
    const base = await openImage(path, options);
    return over === undefined ? throwAway(path, base) : await kept(path, base, over);
  } catch (thrown) {
    throw notOpened(name, thrown);
  }
}

async function plain(path: string, options: Parameters<typeof openImage>[1]): Promise<BootDisk> {
  const image = await openImage(path, options);
  return { path, block: image, image, close: async () => image.close() };
}

function throwAway(path: string, base: Disk): BootDisk {
  const scratch = join(tmpdir(), `paravane-${randomUUID()}.changes`);
  const block = overlay(base, new FileStore(scratch, { create: true }));
  // The file is nobody else's: it has no name any more once it is open.
  rmSync(scratch, { force: true });
  return { path, block, image: null, close: async () => block.close() };
}

async function kept(path: string, base: Disk, over: string): Promise<BootDisk> {
  const store = new FileStore(over, { create: true });
  const parent = { path: relative(dirname(resolve(over)), resolve(path)) };
  const image = await createOverlay(base, store, { format: "qcow2", parent });
  return { path: over, block: image, image, close: async () => image.close() };
}

/** A disc for a CD drive; closing it closes its files. */
export async function openDisc(path: string): Promise<Disc> {
  if (/\.cue$/i.test(path)) return openCueFile(path);
  try {
    const image = await openImage(path, { format: "raw" });
    return { ...cdFromBlock(image), close: () => image.close() };
  } catch (thrown) {
    throw notOpened(path, thrown);
  }
}

/** Where a drive is on the controller. */
export type Place = readonly [channel: 0 | 1, drive: 0 | 1];
const PLACES: readonly Place[] = [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
];

/** What is plugged in, and where the CDs are. */
export interface Arrangement {
  plugged: Pick<AttachOptions, "ide" | "virtio" | "pvscsi">;
  cds: Place[];
}

export function arrange(model: DiskModel, disks: readonly Block[], discs: readonly Disc[]): Arrangement {
  if (model === "ide") return onIde(disks, discs);
  const { plugged, cds } = onIde([], discs);
  return { plugged: { ...plugged, [model]: disks }, cds };
}

/** Disks from the first place on, CD drives on the second channel where they fit. */
function onIde(disks: readonly Block[], discs: readonly Disc[]): Arrangement {
  if (disks.length + discs.length > PLACES.length) {
    throw new ParavaneError("INVALID", "an IDE controller has room for four drives, disks and CDs together");
  }
  const first = disks.length <= 2 && discs.length <= 2 ? 2 : disks.length;
  const ide: IdeDrive[][] = [[], []];
  disks.forEach((block, i) => {
    ide[PLACES[i][0]][PLACES[i][1]] = { block };
  });
  const cds = discs.map((cd, i) => {
    const place = PLACES[first + i];
    ide[place[0]][place[1]] = { cd };
    return place;
  });
  return { plugged: { ide }, cds };
}
