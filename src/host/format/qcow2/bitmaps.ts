// Persistent dirty bitmaps ("Bitmaps") of an open image. While it is changed, what was changed is noted in memory alone, and
// the bitmaps on disk are flagged as in use: whoever finds them so after a crash does not trust them. Closing stores them.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { BitmapChange, BitmapInfo, BitmapRun, DirtyBitmaps } from "../../../core/format.ts";
import {
  buildDirectory,
  type DirectoryEntry,
  entryBytes,
  MAX_BITMAP_BYTES,
  MAX_BITMAP_NAME,
  MAX_BITMAPS,
  MAX_DIRECTORY,
  MAX_GRANULARITY_BITS,
  MIN_GRANULARITY_BITS,
  parseDirectory,
  tableEntries,
} from "./bitmap-directory.ts";
import { Marks, runEnd } from "./bitmap-marks.ts";
import { type Bitmap, readData, storeBitmaps } from "./bitmap-store.ts";
import { Autoclear } from "./header.ts";
import type { Qcow2Image } from "./image.ts";
import { corrupt, read, write } from "./io.ts";
import type { Volume } from "./volume.ts";

/** Bytes of a bitmap's data looked at at a time. */
const WINDOW = 4096;

export class Bitmaps implements DirtyBitmaps {
  readonly #image: Qcow2Image;
  #list: Bitmap[] = [];
  /** Those that note changes. */
  #recording: Bitmap[] = [];
  /** The directory cannot be understood. */
  #fault: ParavaneError | undefined;

  constructor(image: Qcow2Image) {
    this.#image = image;
  }

  get size(): number {
    return this.#image.volume.header.size;
  }
  /** Is there any that its directory says should be there? */
  get any(): boolean {
    return this.#list.length > 0 || this.#fault !== undefined;
  }

  /** Right after the image was opened. */
  *open(onWarning: ((message: string) => void) | undefined): Flow {
    const { header, store } = this.#image.volume;
    if (!header.bitmaps || (header.autoclear & Autoclear.Bitmaps) === 0n) return;
    try {
      for (const entry of yield* readDirectory(this.#image.volume)) this.#list.push(bitmapOf(entry));
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError) || thrown.code !== "CORRUPT") throw thrown;
      this.#fault = thrown;
      this.#list = [];
      onWarning?.(`${store.name}: ${thrown.message}; its bitmaps cannot be used`);
    }
  }

  /** Before the first change of the disk: those that should note it are in use from now on. */
  *begin(): Flow {
    if (this.#fault) throw this.#fault;
    yield* this.#setInUse(this.#list.filter(({ auto }) => auto));
    this.#noteRecording();
  }

  /** Before something about all of them changes, such as the size of the disk. */
  *takeAll(): Flow {
    for (const bitmap of this.#list) usable(bitmap);
    yield* this.#setInUse(this.#list);
  }

  *#setInUse(list: readonly Bitmap[]): Flow {
    const taken = list.filter(({ inUse }) => !inUse);
    if (taken.length === 0) return;
    for (const bitmap of taken) bitmap.inUse = true;
    yield* this.#writeDirectory();
  }

  /** After the last change, when all of it is durable: stores what was noted. */
  *finish(): Flow {
    const ours = this.#list.filter((bitmap) => bitmap.inUse && !bitmap.stale);
    if (ours.length === 0) return;
    const size = (bitmap: Bitmap) => tableEntries(this.#image.volume.header, bitmap.granularityBits);
    if (ours.every((bitmap) => bitmap.marks.empty && !bitmap.fresh && bitmap.entries === size(bitmap))) {
      for (const bitmap of ours) bitmap.inUse = false;
      yield* this.#writeDirectory();
    } else yield* this.#store(this.#list, () => false);
    this.#recording = [];
  }

  /** After the size of the disk has changed: stores them with theirs. */
  *resized(): Flow {
    if (this.#list.length > 0) yield* this.#store(this.#list, ({ auto }) => auto);
  }

  /** Whatever the disk holds may be another now. */
  touchAll(): void {
    this.touch(0, this.size);
  }

  touch(offset: number, length: number): void {
    for (const { marks } of this.#recording) marks.set(offset, length);
  }

  list(): readonly BitmapInfo[] {
    return this.#list.map(({ name, granularityBits, auto, stale }) => ({
      name,
      granularity: 2 ** granularityBits,
      recording: auto,
      inconsistent: stale,
    }));
  }

  *change(changes: readonly BitmapChange[]): Flow {
    const { header, store } = this.#image.volume;
    if (header.version < 3) {
      throw new ParavaneError("UNSUPPORTED", "Cannot store dirty bitmaps in qcow2 v2 files", { file: store.name });
    }
    yield* this.#image.settle();
    const draft = this.#list.map((bitmap) => ({ ...bitmap, marks: bitmap.marks.clone() }));
    for (const change of changes) yield* this.#apply(draft, change);
    if (draft.length === 0 && this.#list.length === 0) return;
    yield* this.#store(draft, ({ auto }) => auto);
  }

  *#apply(draft: Bitmap[], change: BitmapChange): Flow {
    const { name } = change;
    if (change.do === "add") {
      draft.push(this.#added(draft, change));
      return;
    }
    const bitmap = found(draft, name);
    if (change.do === "remove") {
      draft.splice(draft.indexOf(bitmap), 1);
      return;
    }
    usable(bitmap);
    if (change.do === "clear") {
      bitmap.fresh = true;
      bitmap.marks = new Marks(bitmap.granularityBits);
    } else if (change.do === "merge") yield* this.#merge(draft, bitmap, change.from, change.source);
    else bitmap.auto = change.do === "enable";
  }

  #added(draft: readonly Bitmap[], { name, granularity, recording = true }: BitmapChange & { do: "add" }): Bitmap {
    const { header, store, clusterBytes } = this.#image.volume;
    const refuse = (what: string, hint?: string) => new ParavaneError("INVALID", what, { file: store.name }, { hint });
    const bytes = granularity ?? Math.max(4096, Math.min(65536, clusterBytes));
    const granularityBits = Math.log2(bytes);
    if (!Number.isInteger(granularityBits)) throw refuse("Granularity must be power of 2");
    if (granularityBits < MIN_GRANULARITY_BITS) throw refuse("Granularity must be at least 512");
    if (granularityBits > MAX_GRANULARITY_BITS) throw refuse("Granularity must be at most 2147483648");
    const nameBytes = new TextEncoder().encode(name).length;
    if (nameBytes === 0) throw refuse("Bitmap name cannot be empty");
    if (nameBytes > MAX_BITMAP_NAME) throw refuse(`Bitmap name has ${nameBytes} bytes, more than ${MAX_BITMAP_NAME}`);
    if (draft.some((other) => other.name === name)) {
      throw new ParavaneError("EXISTS", `Bitmap already exists: ${name}`, { file: store.name });
    }
    if (header.size === 0) throw refuse("a disk of no bytes has nothing that a bitmap could note");
    if (Math.ceil(header.size / bytes / 8) > MAX_BITMAP_BYTES) {
      throw refuse("Too much space will be occupied by the bitmap", "Use larger granularity");
    }
    const directory = draft.reduce((sum, one) => sum + entryBytes(new TextEncoder().encode(one.name).length), 0);
    if (draft.length >= MAX_BITMAPS || directory + entryBytes(nameBytes) > MAX_DIRECTORY) {
      throw new ParavaneError("NO_SPACE", "Maximum number of persistent bitmaps is already reached", {
        file: store.name,
      });
    }
    const extra = new Uint8Array(0);
    const entry = { name, table: 0, entries: 0, inUse: false, auto: recording, granularityBits, extra };
    return { ...bitmapOf({ ...entry, extraCompatible: false }), fresh: true };
  }

  *#merge(draft: readonly Bitmap[], into: Bitmap, from: string, source: DirtyBitmaps | undefined): Flow {
    const { size } = this;
    if (source && source !== this && source.size !== size) {
      const what = `Bitmaps are of different sizes (destination size is ${size} and source size is ${source.size}) and can't be merged`;
      throw new ParavaneError("INVALID", what);
    }
    const own = source === undefined || source === this ? found(draft, from) : undefined;
    if (own === into) return;
    if (own) usable(own);
    for (let at = 0; at < size; ) {
      const runs = own ? yield* this.#runs(own, at, size - at) : yield* source!.read(from, at, size - at);
      for (const { length, dirty } of runs) {
        if (dirty) into.marks.set(at, length);
        at += length;
      }
    }
  }

  *read(name: string, offset: number, length: number): Flow<BitmapRun[]> {
    const bitmap = found(this.#list, name);
    usable(bitmap);
    return yield* this.#runs(bitmap, offset, length);
  }

  *#runs(bitmap: Bitmap, offset: number, length: number): Flow<BitmapRun[]> {
    const unit = 2 ** bitmap.granularityBits;
    const first = Math.floor(offset / unit);
    const end = Math.min(Math.ceil((offset + length) / unit), (Math.floor(first / 8 / WINDOW) + 1) * WINDOW * 8);
    const from = Math.floor(first / 8);
    const data = yield* readData(this.#image.volume, bitmap, from, Math.ceil(end / 8) - from);
    const runs: BitmapRun[] = [];
    for (let bit = first; bit < end; ) {
      const next = from * 8 + runEnd(data, bit - from * 8, end - from * 8);
      const begin = Math.max(offset, bit * unit);
      const dirty = ((data[(bit >>> 3) - from] >> (bit & 7)) & 1) === 1;
      runs.push({ length: Math.min(offset + length, next * unit) - begin, dirty });
      bit = next;
    }
    return runs;
  }

  *#store(list: readonly Bitmap[], inUse: (bitmap: Bitmap) => boolean): Flow {
    this.#list = yield* storeBitmaps(this.#image.volume, this.#list, list, inUse);
    this.#noteRecording();
  }

  #noteRecording(): void {
    this.#recording = this.#list.filter(({ auto, stale }) => auto && !stale);
  }

  /** Writes the flags. A cut leaves some as they were, which is as good. */
  *#writeDirectory(): Flow {
    const { store, header } = this.#image.volume;
    yield* write(store, header.bitmaps!.position, buildDirectory(this.#list));
    yield* wait(store.flush());
  }
}

function* readDirectory({ store, header, clusterBytes }: Volume): Flow<DirectoryEntry[]> {
  const { position, bytes, count } = header.bitmaps!;
  const end = Math.ceil(store.size / clusterBytes) * clusterBytes;
  const outside = position % clusterBytes !== 0 || position < clusterBytes || position + bytes > end;
  if (outside || count === 0 || count > MAX_BITMAPS || bytes > MAX_DIRECTORY) {
    throw corrupt(store, "bitmap directory", position, `of ${count} bitmaps cannot have ${bytes} bytes at ${position}`);
  }
  return parseDirectory(store, header, yield* read(store, position, bytes), (structure, offset, what) => {
    throw corrupt(store, structure, offset, what);
  });
}

function bitmapOf(entry: DirectoryEntry): Bitmap {
  // What nobody understands may not be used, nor kept up to date.
  const foreign = entry.extra.length > 0 && !entry.extraCompatible;
  const marks = new Marks(entry.granularityBits);
  return { ...entry, stale: entry.inUse || foreign, fresh: false, marks, values: null };
}

function found(list: readonly Bitmap[], name: string): Bitmap {
  const bitmap = list.find((candidate) => candidate.name === name);
  if (bitmap) return bitmap;
  const known = list.map((candidate) => candidate.name).join(", ") || "none";
  throw new ParavaneError("NOT_FOUND", `Dirty bitmap '${name}' not found`, {}, { hint: `There are: ${known}` });
}

function usable({ name, stale }: Bitmap): void {
  if (!stale) return;
  const hint = "It was not stored when the disk changed; remove it: paravane img bitmap --remove";
  throw new ParavaneError("CORRUPT", `Bitmap '${name}' is inconsistent and cannot be used`, {}, { hint });
}
