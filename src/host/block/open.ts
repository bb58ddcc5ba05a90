import type { Block, BlockRequest } from "../../core/block.ts";
import type { AsyncCloseable } from "../../core/dispose.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../core/flow.ts";
import type { CreateOptions, Format, Image, NewFiles, OpenOptions, ParentReference } from "../../core/format.ts";
import type { Passphrase, Unlocking } from "../../core/secret.ts";
import type { Store } from "../../core/store.ts";
import { FORMATS } from "../format/index.ts";
import { orPacked, recognised } from "../format/probe.ts";
import { raw } from "../format/raw.ts";
import { Absent } from "./absent.ts";
import { readBytes } from "./bytes.ts";
import { Chain } from "./chain.ts";
import { Engine, type EngineOptions } from "./engine.ts";
import { denyAll, type OpenGate } from "./gate.ts";
import { RawGuard } from "./guard.ts";
import type { Place } from "./places.ts";

/** Seconds by which clocks and file systems may round. */
const TIME_SLACK = 2;

/** An open disk image. */
export interface Disk extends Block, AsyncCloseable {
  /** The image format's name, such as "vhd". */
  readonly format: string;
  /** How the image names the one that it is based on, if it is. */
  readonly parent: ParentReference | undefined;
  /** What is read where the image holds nothing itself. */
  readonly backing: Block | undefined;
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
  /** Opens the files that the image, and its parents in turn, name, parents read-only. Default: none is. */
  gate?: OpenGate;
  /** What opens parents that are encrypted, the nearest first; where there is none, `passphrase` does. */
  parentPassphrases?: readonly (Passphrase | undefined)[];
  /** The format of the parent that the image names, whatever the image says. */
  parentFormat?: string;
  /** Leaves the parent out, for work on the image alone: reading what it does not hold itself fails. */
  alone?: boolean;
  signal?: AbortSignal;
}

export interface CreateDiskOptions extends CreateOptions, Omit<Unlocking, "locked"> {
  format: string;
  /** The parent of an image that is made to have one; the disk closes it. */
  backing?: Block;
  /** Opens another file of the image, which exists already, named as the image names it. */
  openFile?: OpenOptions["openFile"];
  /** Makes other files of the image, for formats that need some, and says what the image will be called. */
  files?: NewFiles;
  signal?: AbortSignal;
}

/**
 * Opens the image in `store`, and through `gate` those that it is based on; the disk owns the store from then on, and
 * `close()` closes all. When opening fails `store` and `backing` are left open.
 * @throws ParavaneError CORRUPT, UNSUPPORTED, INVALID (no such format), READ_ONLY, ABORTED, NOT_FOUND (the parent or a data
 * file), DENIED (by the gate), and what the store throws
 */
export async function openDisk(store: Store, options: OpenDiskOptions = {}): Promise<Disk> {
  const { format: name, signal, ...rest } = options;
  const readOnly = options.readOnly ?? store.readOnly;
  if (!readOnly && store.readOnly) {
    throw new ParavaneError("READ_ONLY", `${store.name} cannot be written`, { file: store.name });
  }
  return drive(open(new Chain(options.gate ?? denyAll, [store]), name, { ...rest, readOnly }), signal);
}

/**
 * Writes a new, empty image into an empty store and opens it.
 * @throws ParavaneError EXISTS (the store is not empty), INVALID, NO_SPACE, ABORTED, and what the store throws
 */
export async function createDisk(store: Store, options: CreateDiskOptions): Promise<Disk> {
  const { format: name, signal, backing, files, ...rest } = options;
  if (store.size > 0) {
    throw new ParavaneError("EXISTS", `${store.name} is not empty`, { file: store.name });
  }
  return drive(create(store, formatNamed(name), rest, files, backing), signal);
}

/** @throws ParavaneError INVALID */
export function formatNamed(name: string): Format {
  const format = FORMATS.find((candidate) => candidate.name === name);
  if (format) return format;
  const known = FORMATS.map((candidate) => candidate.name).join(", ");
  throw new ParavaneError("INVALID", `there is no disk format "${name}"`, {}, { hint: `Known: ${known}` });
}

/**
 * Writes an empty image into an empty store, durably.
 * @throws ParavaneError UNSUPPORTED (images of the format are only read), INVALID, NO_SPACE
 */
export function* createEmpty(store: Store, format: Format, options: CreateOptions, files?: NewFiles): Flow {
  if (!format.create) throw notMade(format, store);
  yield* format.create(store, options, files);
  yield* wait(store.flush());
}

function notMade({ name, written }: Format, store: Store): ParavaneError {
  const message = written ? `${name} images are not made here` : `${name} images are only read`;
  const hint = "Make an image of another format, such as qcow2";
  return new ParavaneError("UNSUPPORTED", message, { file: store.name, format: name }, { hint });
}

function* create(
  store: Store,
  format: Format,
  options: CreateOptions,
  files?: NewFiles,
  backing?: Block,
): Flow<ImageDisk> {
  yield* createEmpty(store, format, options, files);
  const { openFile } = options as CreateDiskOptions;
  const image = yield* format.open(store, { ...unlockingOf(options as Unlocking), ...(openFile && { openFile }) });
  checkParent(image, store, backing, () => {});
  return new ImageDisk(image, store, { backing });
}

/** What opens the image, and those that it is based on: a function is asked for each. */
function unlockingOf({ passphrase, volumeKey, kdf }: Unlocking): Unlocking {
  return { ...(passphrase && { passphrase }), ...(volumeKey && { volumeKey }), ...(kdf && { kdf }) };
}

type ChainOptions = Omit<OpenDiskOptions, "format" | "signal" | "gate">;

/** The last image of the chain, and its parents. */
function* open(chain: Chain, name: string | undefined, options: ChainOptions): Flow<ImageDisk> {
  const { store } = chain;
  const format = name === undefined ? yield* recognised(store, FORMATS, options.onWarning) : formatNamed(name);
  const { backing: given, alone = false, ...rest } = options;
  if (!format.create && !format.written && !options.readOnly) {
    const hint = `Open it read-only, or convert it first: paravane img convert -O qcow2 ${store.name} NEW.qcow2`;
    const context = { file: store.name, format: format.name };
    throw new ParavaneError("READ_ONLY", `${format.name} images are only read`, context, { hint });
  }
  const onWarning = options.onWarning ?? (() => {});
  const openFile = options.openFile ?? ((file: string, readOnly: boolean) => run(chain.data(file, readOnly)));
  let image: Image;
  try {
    image = yield* format.open(store, { ...rest, openFile });
  } catch (thrown) {
    throw name === undefined ? thrown : yield* orPacked(store, thrown);
  }
  let backing = given;
  let opened = false;
  try {
    if (image.parent && !backing)
      backing = alone ? new Absent(store.name, image.parent.paths) : yield* parentOf(chain, image, rest);
    checkParent(image, store, backing, onWarning);
    // Whoever named the format will name it again.
    const guard = name === undefined && format === raw ? new RawGuard(store) : undefined;
    const disk = new ImageDisk(image, store, { ...options, backing }, guard);
    opened = true;
    return disk;
  } finally {
    if (!opened) {
      if (image.data) leave(image.data);
      if (backing && backing !== given) leave(backing);
    }
  }
}

function* parentOf(chain: Chain, { parent, format }: Image, options: ChainOptions): Flow<ImageDisk> {
  const { store, format: noted, writable = false } = yield* chain.parent(parent!);
  const said = options.parentFormat ?? noted;
  const below = new Chain(chain.gate, [...chain.stores, store]);
  let disk: ImageDisk | undefined;
  let opened = false;
  try {
    const { codecs, onWarning, parentPassphrases: [own, ...others] = [] } = options;
    const { volumeKey: _, ...usual } = unlockingOf(options);
    const unlocking = { ...usual, ...(own && { passphrase: own }) };
    disk = yield* open(below, said, {
      readOnly: !writable,
      ...unlocking,
      ...(others.length > 0 && { parentPassphrases: others }),
      ...(codecs && { codecs }),
      ...(onWarning && { onWarning }),
    });
    if (said === undefined && disk.format === "raw") throw guessed(chain.store, store, format);
    opened = true;
    return disk;
  } catch (thrown) {
    throw below.blame(thrown);
  } finally {
    if (!opened) leave(disk ?? store);
  }
}

/**
 * A guest that writes another format's header into its raw disk would make the host open what that header names. So raw
 * parents are never guessed.
 */
function guessed(child: Store, parent: Store, format: string): ParavaneError {
  return new ParavaneError(
    "DENIED",
    `the parent, ${parent.name}, has no header that is known, and the ${format} image does not say that it is raw`,
    { file: child.name, structure: "backing format" },
    { hint: "If it is, say so: paravane img rebase -u -F raw -b PARENT IMAGE" },
  );
}

/** Closes what was opened for an image that could not be, without waiting for it. */
function leave(closing: { close(): Later<void> }): void {
  Promise.resolve()
    .then(() => closing.close())
    .catch(() => {});
}

/** An image with a parent is never read without it, nor over a disk that is known to be another. */
function checkParent(
  { parent, format }: Image,
  store: Store,
  backing: Block | undefined,
  onWarning: (message: string) => void,
): void {
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
  if (!(backing instanceof ImageDisk)) return;
  const { modified } = backing.store;
  // Copying a file changes its time too, so that is no more than a sign.
  if (parent.modified !== undefined && modified !== undefined && modified > parent.modified + TIME_SLACK) {
    onWarning(`${backing.store.name} was written after ${store.name} was based on it, unless it was only copied`);
  }
  const { identity } = backing.image;
  const known = parent.identities;
  if (identity === undefined || known.length === 0) return;
  if (known.some((one) => identity === one || identity.startsWith(`${one}/`))) return;
  throw new ParavaneError(
    "CORRUPT",
    `the parent, ${backing.store.name}, is another disk than ${named}, or was changed`,
    { ...context, identity, expected: parent.identities },
    { hint: "If it is the right one, note it anew: paravane img rebase -u" },
  );
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
  get parent(): ParentReference | undefined {
    return this.image.parent;
  }
  describe(): Record<string, unknown> {
    return { ...this.image.describe(), store: this.store.name, readOnly: this.readOnly };
  }
}

/** Runs a flow; the signal stops it before its next step. */
export async function drive<T>(flow: Flow<T>, signal: AbortSignal | undefined): Promise<T> {
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
