import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { extname, join } from "node:path";
import type { Block } from "../../core/block.ts";
import { overlay } from "../../host/block/overlay.ts";
import { FORMATS } from "../../host/format/index.ts";
import { ObservedStore } from "../../lab/observe.ts";
import { createFile, FileStore, openDisk } from "../../node.ts";

export interface LabImageOptions {
  /** Absent: a new one, in a temporary folder, removed at the end. */
  path: string | undefined;
  /** Bytes of a new image. */
  size: number;
  /** Of a new image; told by its name when absent. Of an existing one: found out when absent. */
  format: string | undefined;
  /** Write an existing image itself. */
  overwrite: boolean;
}

/** The disk that the lab works on, and what becomes of its file. */
export interface LabImage {
  disk: Block;
  /** The store whose steps are shown. */
  store: ObservedStore;
  /** What the lab works on, for people. */
  title: string;
  /** Makes durable and closes; removes what was only scratch. */
  close(): Promise<void>;
  /**
   * After a failure: leaves no unfinished image behind where that can be helped. Tells in what state the file is, if there
   * is one.
   */
  abandon(): string;
  /** After a stop by the user, when closed: tells in what state the file is. */
  stopped(): string;
}

/** @throws ParavaneError what opening and creating throw */
export async function openLabImage(options: LabImageOptions): Promise<LabImage> {
  const { path } = options;
  if (path === undefined) return temporary(options);
  if (!existsSync(path)) return created(path, options);
  return options.overwrite ? overwritten(path, options) : layered(path, options);
}

async function open(path: string, format: string | undefined, readOnly = false) {
  const file = new FileStore(path, { readOnly });
  const store = new ObservedStore(file);
  try {
    return { store, disk: await openDisk(store, { readOnly, ...(format === undefined ? {} : { format }) }) };
  } catch (thrown) {
    file.close();
    throw thrown;
  }
}

async function make(path: string, { format, size }: LabImageOptions) {
  const named = FORMATS.find(({ extensions }) => extensions.includes(extname(path).slice(1).toLowerCase()));
  const disk = await createFile(path, { format: format ?? named?.name ?? "vhd", size });
  await disk.close();
  return open(path, disk.format);
}

async function temporary(options: LabImageOptions): Promise<LabImage> {
  const folder = mkdtempSync(join(tmpdir(), "paravane-lab-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  const format = options.format ?? "vhd";
  const { disk, store } = await make(join(folder, `lab.${format}`), { ...options, format });
  return {
    disk,
    store,
    title: `a new ${disk.format} image in a temporary folder`,
    close: async () => {
      await disk.close();
      remove();
    },
    abandon: () => "",
    stopped: () => "the temporary image is removed",
  };
}

async function created(path: string, options: LabImageOptions): Promise<LabImage> {
  const { disk, store } = await make(path, options);
  return {
    disk,
    store,
    title: `${path}, a new ${disk.format} image`,
    close: async () => disk.close(),
    abandon: () => {
      rmSync(path, { force: true });
      return `${path} was not finished and is removed`;
    },
    stopped: () => `${path} is a sound image, but holds only part of what the lab writes`,
  };
}

async function overwritten(path: string, options: LabImageOptions): Promise<LabImage> {
  const { disk, store } = await open(path, options.format);
  return {
    disk,
    store,
    title: `${path} (${disk.format}), overwriting it`,
    close: async () => disk.close(),
    abandon: () => `${path} is partly overwritten`,
    stopped: () => `${path} is a sound image, partly overwritten`,
  };
}

async function layered(path: string, options: LabImageOptions): Promise<LabImage> {
  const base = await open(path, options.format, true);
  const folder = mkdtempSync(join(tmpdir(), "paravane-lab-"));
  const remove = () => rmSync(folder, { recursive: true, force: true });
  process.once("exit", remove);
  const store = new ObservedStore(new FileStore(join(folder, "changes"), { create: true }));
  const disk = overlay(base.disk, store);
  return {
    disk,
    store,
    title: `${path} (${base.disk.format}), unchanged below a throw-away overlay`,
    close: async () => {
      await disk.close();
      remove();
    },
    abandon: () => `${path} is unchanged`,
    stopped: () => `${path} is unchanged`,
  };
}
