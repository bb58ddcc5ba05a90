import type { Block, BlockRequest } from "../../core/block.ts";
import type { AsyncCloseable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, wait } from "../../core/flow.ts";
import type { CreateOptions, Format, Image, OpenOptions } from "../../core/format.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { FORMATS } from "../format/index.ts";
import { raw } from "../format/raw.ts";
import { foreignFormat } from "../format/signatures.ts";
import { readBytes } from "./bytes.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { RawGuard } from "./guard.ts";
import type { Place } from "./places.ts";

/** An open disk image. */
export interface Disk extends Block, AsyncCloseable {
  /** The image format's name, such as "vhd". */
  readonly format: string;
  /** The format's own facts about the image, JSON-safe. */
  describe(): Record<string, unknown>;
  /**
   * Changes the disk's size, in bytes, durably; new bytes are zeros. What is submitted meanwhile waits.
   * @throws ParavaneError CLOSED, READ_ONLY, INVALID, UNSUPPORTED (by the format), NO_SPACE
   */
  resize(size: number): Promise<void>;
  /**
   * Where the bytes from `offset` on are, without reading them: a list that covers a first part of the range, at least one
   * byte of it. @throws ParavaneError CLOSED, CORRUPT, and what the store throws
   */
  places(offset: number, length: number): Later<Place[]>;
}

export interface OpenDiskOptions extends OpenOptions {
  /** The format's name; found out from the content when absent. */
  format?: string;
  /** The parent of an image that has one; the disk closes it. Its identity is checked where both formats keep one. */
  backing?: Block;
  signal?: AbortSignal;
}

export interface CreateDiskOptions extends CreateOptions {
  format: string;
  /** The parent of an image that is made to have one; the disk closes it. */
  backing?: Block;
  signal?: AbortSignal;
}

/**
 * Opens the image in `store`; the disk owns the store from then on, and `close()` closes both. When opening fails the
 * store is left open.
 * @throws ParavaneError CORRUPT, UNSUPPORTED, INVALID (no such format), READ_ONLY, ABORTED, and what the store throws
 */
export async function openDisk(store: Store, options: OpenDiskOptions = {}): Promise<Disk> {
  const { format: name, signal, ...rest } = options;
  const readOnly = options.readOnly ?? store.readOnly;
  if (!readOnly && store.readOnly) {
    throw new ParavaneError("READ_ONLY", `${store.name} cannot be written`, { file: store.name });
  }
  return drive(open(store, name, { ...rest, readOnly }), signal);
}

/**
 * Writes a new, empty image into an empty store and opens it.
 * @throws ParavaneError EXISTS (the store is not empty), INVALID, NO_SPACE, ABORTED, and what the store throws
 */
export async function createDisk(store: Store, options: CreateDiskOptions): Promise<Disk> {
  const { format: name, signal, backing, ...rest } = options;
  if (store.size > 0) {
    throw new ParavaneError("EXISTS", `${store.name} is not empty`, { file: store.name });
  }
  return drive(create(store, formatNamed(name), rest, backing), signal);
}

/** @throws ParavaneError INVALID */
function formatNamed(name: string): Format {
  const format = FORMATS.find((candidate) => candidate.name === name);
  if (format) return format;
  const known = FORMATS.map((candidate) => candidate.name).join(", ");
  throw new ParavaneError("INVALID", `there is no disk format "${name}"`, {}, { hint: `Known: ${known}` });
}

function* create(store: Store, format: Format, options: CreateOptions, backing?: Block): Flow<Disk> {
  yield* format.create(store, options);
  yield* wait(store.flush());
  const image = yield* format.open(store, {});
  checkParent(image, store, backing);
  return new ImageDisk(image, store, { backing });
}

function* open(store: Store, name: string | undefined, options: OpenOptions & { backing?: Block }): Flow<Disk> {
  const format = name === undefined ? yield* probe(store) : formatNamed(name);
  if (name === undefined && format === raw) {
    const ending = /\.([^./\\]+)$/.exec(store.name)?.[1].toLowerCase() ?? "";
    const claimed = FORMATS.find((other) => other !== raw && other.extensions.includes(ending));
    if (claimed) {
      throw new ParavaneError(
        "CORRUPT",
        `it is named as a ${claimed.name} image, but nothing in it says so: truncated, or a raw disk`,
        { file: store.name },
        { hint: 'If it is a raw disk, say so: format "raw"' },
      );
    }
    options.onWarning?.(`${store.name} has no image header that is known: taken as a raw disk`);
  }
  const { backing, ...rest } = options;
  const image = yield* format.open(store, rest);
  checkParent(image, store, backing);
  // Whoever named the format will name it again.
  const guard = name === undefined && format === raw ? new RawGuard(store) : undefined;
  return new ImageDisk(image, store, options, guard);
}

/** An image with a parent is never read without it, nor over a disk that is known to be another. */
function checkParent({ parent, format }: Image, store: Store, backing: Block | undefined): void {
  const context = { file: store.name, structure: "parent locator", paths: parent?.paths, format: parent?.format };
  if (!parent) {
    if (!backing) return;
    throw new ParavaneError("INVALID", `${store.name} has no parent, but one was given`, context);
  }
  const named = parent.paths[0] ?? "(unnamed)";
  if (!backing) {
    throw new ParavaneError("NOT_FOUND", `this ${format} image needs its parent, ${named}`, context, {
      hint: "Open the parent first and give it as `backing`",
    });
  }
  const identity = backing instanceof ImageDisk ? backing.image.identity : undefined;
  if (identity === undefined || parent.identities.length === 0 || parent.identities.includes(identity)) return;
  throw new ParavaneError("CORRUPT", `the parent is another disk than ${named}, or was changed`, {
    ...context,
    identity,
    expected: parent.identities,
  });
}

/** The format that is surest of the store's first and last sector; raw, when no other claims it. */
function* probe(store: Store): Flow<Format> {
  const length = Math.min(512, store.size);
  const head = new Uint8Array(length);
  const tail = new Uint8Array(length);
  yield* wait(store.readv(0, head, SegmentList.of(0, length)));
  yield* wait(store.readv(store.size - length, tail, SegmentList.of(0, length)));
  let best: Format = raw;
  for (const format of FORMATS) if (format.probe(head, tail) > best.probe(head, tail)) best = format;
  const foreign = best === raw ? foreignFormat(head) : undefined;
  if (foreign === undefined) return best;
  const hint = 'If it is a raw disk with such a content, say so: format "raw"';
  throw new ParavaneError("UNSUPPORTED", `it is a ${foreign} image`, { file: store.name }, { hint });
}

class ImageDisk extends Engine implements Disk {
  readonly #guard: RawGuard | undefined;

  constructor(image: Image, store: Store, options: EngineOptions, guard?: RawGuard) {
    super(image, store, options);
    this.#guard = guard;
  }

  override submit(requests: readonly BlockRequest[]): Later<void> {
    if (!this.#guard) return super.submit(requests);
    return this.#guard.submit(requests, this.size, (batch) => super.submit(batch));
  }

  override async resize(size: number): Promise<void> {
    if (this.#guard && size >= 512 && size < this.size) {
      this.#guard.checkEnd(await readBytes(this, Math.floor(size) - 512, 512));
    }
    return super.resize(size);
  }

  get format(): string {
    return this.image.format;
  }
  describe(): Record<string, unknown> {
    return { ...this.image.describe(), store: this.store.name, readOnly: this.readOnly };
  }
}

/** Runs a flow; the signal stops it before its next step. */
async function drive<T>(flow: Flow<T>, signal: AbortSignal | undefined): Promise<T> {
  const check = () => {
    if (!signal?.aborted) return;
    throw new ParavaneError("ABORTED", "the caller gave up", {}, { cause: signal.reason });
  };
  check();
  for (let step = flow.next(); ; ) {
    if (step.done) return step.value;
    const outcome = await step.value.then(
      (value) => ({ value }),
      (thrown: unknown) => ({ thrown }),
    );
    try {
      check();
    } catch (aborted) {
      flow.return(undefined as T);
      throw aborted;
    }
    step = "thrown" in outcome ? flow.throw(outcome.thrown) : flow.next(outcome.value);
  }
}
