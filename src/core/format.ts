import type { Block } from "./block.ts";
import type { ParavaneError } from "./error.ts";
import type { Flow, Later } from "./flow.ts";
import type { KeySlots } from "./keys.ts";
import type { Unlocking } from "./secret.ts";
import type { SegmentList } from "./segments.ts";
import type { Store } from "./store.ts";

/** What kind of place a guest range lives in. The values are those of `ExtentKind` in assembly/spec/map.ts. */
export const ExtentKind = {
  /** At `position` in the store. */
  Data: 0,
  /** Reads as zeros; nothing is stored. */
  Zero: 1,
  /** Not in this image: the parent has it, or it reads as zeros when there is none. */
  Backing: 2,
  /** Stored compressed: `Image.unpack` reads it; a write needs a place first. */
  Packed: 3,
} as const;
export type ExtentKind = (typeof ExtentKind)[keyof typeof ExtentKind];

/** Why `Mapper.resolve` stopped. The values are those of `MapStop` in assembly/spec/map.ts. */
export const MapStop = {
  /** Every range is answered. */
  Done: 0,
  /** The extent list is full: use it, then call again. */
  Full: 1,
  /** A metadata page is not cached: `Image.load()`, then call again. */
  Miss: 2,
  /** A write meets a range with no place yet: `Image.allocate(offset, length)`, then call again. */
  Allocate: 3,
  /** A metadata entry points outside the store or contradicts the format. */
  Corrupt: 4,
} as const;
export type MapStop = (typeof MapStop)[keyof typeof MapStop];

/**
 * The address translation of one image: guest ranges in, extents out, a whole batch a call. Ranges and extents live in
 * the core's memory; the accessors read and write them without allocation. Pure over cached metadata.
 */
export interface Mapper {
  readonly maxRanges: number;
  setRange(index: number, offset: number, length: number, write: boolean): void;
  /** Answers ranges 0..count-1 in order, until done or stopped; called again, goes on where it stopped. */
  resolve(count: number): MapStop;
  /** Extents of the last `resolve`. They cover range after range without a gap. */
  readonly extentCount: number;
  extentRange(index: number): number;
  extentKind(index: number): ExtentKind;
  extentLength(index: number): number;
  /** Byte position in the store; only for `Data`. */
  extentPosition(index: number): number;
  /** Where it stopped: the range, the guest offset in bytes, and for `Allocate` the length that has no place. */
  readonly stopRange: number;
  readonly stopOffset: number;
  readonly stopLength: number;
  /** For `Miss`: which metadata page (the format's own key). */
  readonly stopKey: number;
  /** For `Miss`: where in the store that page is. For `Corrupt`: where the entry points. */
  readonly stopPosition: number;
}

/** An opened image: it answers where bytes are and never moves guest data. Offsets and sizes are bytes. */
export interface Image {
  readonly format: string;
  readonly size: number;
  readonly sectorSize: number;
  readonly mapper: Mapper;
  /** Where data extents are, when that is another store than the image's own. Whoever drives the image closes it. */
  readonly data?: Store;
  /** Stored bytes are not the guest's, so that where they are is of no use to others. */
  readonly encrypted?: boolean;
  /** Absent when no passphrases open the image. */
  readonly keys?: KeySlots;
  /** What the store holds no bytes of was never written: holes of the store are holes of the disk. */
  readonly sparse?: boolean;
  /** Metadata waits in memory for `stage` or `sync`. */
  readonly dirty: boolean;
  /** So much of it that it should be written before more is changed. */
  readonly crowded?: boolean;
  /** For an image that holds only what differs from another. It must not be read without that. */
  readonly parent?: ParentReference;
  /** What children note of this image, to know it again; changes when its content does, where the format says so. */
  readonly identity?: string;
  /** What `identity` will be from the first change on, where opening the image makes that up. */
  readonly nextIdentity?: string;
  /** Right after `resolve` stopped with `Miss`: brings the metadata page `Mapper.stopKey` into the cache. */
  load(): Flow;
  /** Right after `resolve` stopped with `Corrupt`: what is wrong, naming the structure and its place. */
  fault(): ParavaneError;
  /**
   * Gives [offset, offset + length) a place for data, zero-filled where the guest will not write; may give a longer range
   * one, or a shorter prefix. The entry that makes the place visible is written after what it points to.
   */
  allocate(offset: number, length: number): Flow;
  /**
   * Absent when the format cannot say "zeros" in metadata. Makes allocation units from `offset` on read as zeros; returns
   * how many of the bytes from `offset` now do (0: the first unit cannot). The engine writes zeros over the rest.
   */
  zero?(offset: number, length: number): Flow<number>;
  /** Bytes that `zero` needs together; present with `zero`. */
  readonly zeroUnit?: number;
  /**
   * Fills the segments with guest bytes from `offset`, all of them in extents of kind `Packed`. Called right after the
   * `resolve` that said so, and looks metadata up before it waits for anything.
   */
  unpack?(offset: number, memory: Uint8Array, segments: SegmentList): Flow;
  /** Told of the parent before anything else, by whoever drives the image: `allocate` may copy from it. */
  attach?(backing: Block): void;
  /** Writes metadata that nothing in the store refers to yet; before the flush that comes before `sync`. */
  stage?(): Flow;
  /** Writes metadata that is still only in memory; the engine flushes the store before (what it points to) and after. */
  sync(): Flow;
  /** What `sync` wrote is durable: space that it gave up may be used again. */
  release?(): void;
  /** Before the first write, discard or zeroing since it was opened: notes on disk, durably, that the image changes. */
  begin?(): Flow;
  /** After the last flush, if `begin` was called: notes on disk, durably, that nothing is left to repair. */
  finish?(): Flow;
  /**
   * Absent when the format cannot do it. Changes the disk's size, durably; new bytes are zeros. Nothing else is under way,
   * and `mapper` may be another afterwards. @throws ParavaneError INVALID, UNSUPPORTED, NO_SPACE
   */
  resize?(size: number): Flow;
  /**
   * Absent when the format has no places without data. Gives each allocation unit that lies in guest bytes [from, to), which read
   * as zeros, a place, durably; nothing is written there. Nothing else is under way.
   */
  preallocate?(from: number, to: number): Flow;
  // The next seven change the whole image, durably. Nothing else is under way, and `mapper` may be another afterwards.
  /** Absent when the format keeps no snapshots inside the image. */
  readonly snapshots?: Snapshots;
  /** Absent when the format keeps no bitmaps inside the image. */
  readonly bitmaps?: DirtyBitmaps;
  /** Notes another parent, or none (`undefined`); moves no data. @throws ParavaneError INVALID, UNSUPPORTED, NO_SPACE */
  setParent?(parent: NewParent | undefined): Flow;
  /**
   * Absent when nothing of it can be changed. The format's own options, as for a new image.
   * @throws ParavaneError INVALID, UNSUPPORTED
   */
  amend?(options: AmendOptions): Flow;
  /** Drops all that the image holds itself, so that its parent (or zeros) shows. @throws ParavaneError UNSUPPORTED */
  empty?(): Flow;
  /** How clusters are stored compressed; present with `writePacked`. */
  readonly packing?: Packing;
  /**
   * Stores the cluster at `offset`, compressed as `packing` says, in place of what is there; visible at the next `sync`, as
   * after `allocate`. @throws ParavaneError INVALID, NO_SPACE
   */
  writePacked?(offset: number, packed: Uint8Array): Flow;
  /** Why the image takes no more changes, where damage was found since it was opened. */
  readonly refusal?: ParavaneError | undefined;
  /** Why the guest must not write these bytes of the store in place, though the map says that they are its own; or null. */
  guard?(position: number, length: number): ParavaneError | null;
  /** After `guard` gave a reason: notes the damage on disk, durably; from then on `refusal` says it. Present with `guard`. */
  condemn?(cause: ParavaneError): Flow;
  /** What `img info` shows: the format's own facts, JSON-safe. */
  describe(): Record<string, unknown>;
}

/** One state of the disk, kept inside the image. */
export interface SnapshotInfo {
  id: string;
  name: string;
  /** Milliseconds since 1970. */
  date: number;
  /** Guest-visible bytes then; absent where the image does not say. */
  diskSize?: number;
  /** Bytes of saved machine state. */
  stateSize: number;
  /** Nanoseconds that the guest had run. */
  clock: bigint;
  /** Instructions that it had executed; absent where the image does not say. */
  instructions?: bigint;
}

/** Snapshots are found by id, else by name. @throws ParavaneError NOT_FOUND, UNSUPPORTED, NO_SPACE */
export interface Snapshots {
  /** Oldest first. */
  list(): readonly SnapshotInfo[];
  /** Keeps the disk as it is now. */
  create(options: { name: string; date?: number }): Flow<SnapshotInfo>;
  /** Makes the disk what it was, size included; the snapshot stays. */
  apply(idOrName: string): Flow;
  delete(idOrName: string): Flow;
}

/** A record of which parts of the disk were changed, kept inside the image. */
export interface BitmapInfo {
  name: string;
  /** Bytes that a bit stands for. */
  granularity: number;
  /** It notes changes of the disk. */
  recording: boolean;
  /** It was not stored after the disk changed: of no use, but to be removed. */
  inconsistent: boolean;
}

/** A run of the disk that a bitmap says is changed, or is not. Bytes. */
export interface BitmapRun {
  length: number;
  dirty: boolean;
}

/** What to do with bitmaps. */
export type BitmapChange =
  | { do: "add"; name: string; granularity?: number; recording?: boolean }
  | { do: "remove" | "clear" | "enable" | "disable"; name: string }
  /** Sets what is set in the bitmap `from`, of another image with a disk of that size where `source` is given. */
  | { do: "merge"; name: string; from: string; source?: DirtyBitmaps };

/** Bitmaps are found by name. @throws ParavaneError NOT_FOUND, EXISTS, CORRUPT (inconsistent), INVALID, UNSUPPORTED, NO_SPACE */
export interface DirtyBitmaps {
  /** Bytes of the disk that they are for. */
  readonly size: number;
  list(): readonly BitmapInfo[];
  /** All of it, durably, or nothing. Nothing else is under way. */
  change(changes: readonly BitmapChange[]): Flow;
  /** What the bitmap says of the bytes from `offset` on: a first part of the range, at least one byte of it. */
  read(name: string, offset: number, length: number): Flow<BitmapRun[]>;
  /** The guest is about to change these bytes; after `Image.begin`. */
  touch(offset: number, length: number): void;
}

/** Format-specific, as for a new image. */
export type AmendOptions = Record<string, unknown>;

/** How an image's clusters are compressed. Whoever writes does the compressing, on as many processors as there are. */
export interface Packing {
  /** Guest bytes that are compressed together; `writePacked` takes multiples of it, the last one filled up with zeros. */
  unit: number;
  codec: "deflate" | "zlib" | "zstd";
  /** All of the image is stored compressed, and written once, by a conversion. */
  only?: boolean;
  /** deflate: log2 of the window that readers have. */
  windowBits?: number;
}

/** A parent to be noted in an image. */
export interface NewParent {
  /** As it is to be found from the image's own folder, or an absolute path; with slashes or backslashes. */
  path: string;
  /** A second way to find it, for formats that note both. */
  absolutePath?: string;
  /** By our name, such as "vhd". */
  format?: string;
  /** Its `Image.identity`, for formats that note one. */
  identity?: string;
  /** Another that it may come to have: it is about to be changed. */
  nextIdentity?: string;
  /** When its file was last written, in seconds since 1970, for formats that note it. */
  modified?: number;
}

/** How an image names the one that it is based on. */
export interface ParentReference {
  /** Where it may be, best guess first, as written in the image: another host's paths, relative ones, or a URL. */
  readonly paths: readonly string[];
  /** The parent's format, where the image says it. */
  readonly format?: string;
  /**
   * One of these is the right parent's `Image.identity`, or its parts up to a slash; empty when the format does not say.
   */
  readonly identities: readonly string[];
  /**
   * For an image that knows its parent by content, and notes no name: is it the file with these first 512 bytes? `paths` are
   * guesses then.
   */
  recognise?(head: Uint8Array): boolean;
  /** Paths are Windows', with drive letters and backslashes. */
  readonly windows?: boolean;
  /** When the parent's file was last written, in seconds since 1970, where the image notes it. */
  readonly modified?: number;
}

/** Turns the bytes of one compressed cluster (and perhaps some after its end) into exactly `size` bytes. */
export type Decompress = (packed: Uint8Array, size: number) => Later<Uint8Array>;

export interface OpenOptions extends Unlocking {
  readOnly?: boolean;
  /** Opens another file of the same image, named as the image names it. Without it such an image is refused. */
  openFile?: (name: string, readOnly: boolean) => Later<Store>;
  /** Which disk of an archive that holds several, by its name there. */
  member?: string;
  /** Faster decompressors than the built-in ones. */
  codecs?: { deflate?: Decompress; zstd?: Decompress };
  /** Told of anything odd that was tolerated. */
  onWarning?: (message: string) => void;
}

/** What checking may need to open. */
export type CheckFiles = Pick<OpenOptions, "openFile" | "member">;

/**
 * What a new image is to be. The formats' own options, which `paravane img create -f FORMAT -o help` explains under qemu-img's
 * names (sizes in bytes):
 * - qcow2: clusterSize, compat, refcountBits, lazyRefcounts, extendedL2, compressionType, preallocation, dataFile,
 *   dataFileRaw, encryption ("luks", or an object of LUKS's own)
 * - vhd: subformat, blockSize, forceSize
 * - vhdx: subformat, blockSize, logSize, logicalSectorSize, physicalSectorSize
 * - vdi: subformat, blockSize
 * - vmdk: subformat, adapterType, hwVersion, compat6, zeroedGrain
 * - parallels: clusterSize
 * - luks: version, cipher, keySize, hash, iterTime, pbkdf, sectorSize, preallocation
 * - raw: preallocation
 */
export interface CreateOptions {
  /** Guest-visible bytes. */
  size: number;
  /** Makes the image hold only what differs from this one; it must be opened over it. */
  parent?: NewParent;
  /** Format-specific, such as `subformat: "fixed"`; unknown names are refused. */
  [option: string]: unknown;
}

/** The files of a new image. */
export interface NewFiles {
  /** What the image's own file will be called, without a folder: the store may have another name while it is made. */
  name: string;
  /** Makes another file of the image, empty, beside its own. @throws ParavaneError EXISTS, IO, … */
  make(name: string): Later<Store>;
}

/** What is wrong with an image. */
export interface Problem {
  /**
   * A leak wastes space. A wrong count, flag or second copy may lose data later, and repair mends it. A bad structure has
   * lost some.
   */
  kind: "leak" | "count" | "copy" | "structure";
  /** In the words of the format's specification. */
  structure: string;
  /** Byte in the file. */
  offset: number;
  message: string;
}

/** Clusters are what the format allocates: VHDX blocks, qcow2 clusters. */
export interface CheckReport {
  /** Units of the file, clusters or MiB, that nothing refers to. */
  leaks: number;
  /** Everything else that is wrong. */
  corruptions: number;
  /** The first of both. */
  problems: Problem[];
  /** Clusters that the guest sees; those stored in the image, or its data file; those stored compressed. */
  totalClusters: number;
  allocatedClusters: number;
  compressedClusters: number;
  /** Of those stored, how many do not follow the one before them, where the format counts that. */
  fragmentedClusters?: number;
  /** First byte that nothing reaches that is in use, or counted as such. */
  imageEndOffset: number;
}

/** How large image files get. */
export interface Measure {
  /** Guest bytes that get a place together. */
  unit: number;
  /** Bytes of the file that holds `units` of them. */
  bytes(units: number): number;
  /** Bytes that bitmaps like these take, where the format keeps some. */
  bitmaps?(list: readonly Pick<BitmapInfo, "name" | "granularity">[]): number;
}

/** A disk-image format: one file (or folder) under src/host/format, listed in its index. */
export interface Format {
  readonly name: string;
  /** Without the dot, most usual first. */
  readonly extensions: readonly string[];
  /** Images that others made are opened for writing, too; as all are that can be made here. */
  readonly written?: boolean;
  /** A new image reads as noise, not as zeros, unless it is preallocated. */
  readonly noise?: boolean;
  /**
   * How sure it is from the first and last 512 bytes (either may be shorter): 0 no, 100 certain.
   */
  probe(head: Uint8Array, tail: Uint8Array): number;
  /** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the structure and its offset */
  open(store: Store, options: OpenOptions): Flow<Image>;
  /**
   * Writes an empty image to an empty store. Absent for formats that none is made in. @throws ParavaneError INVALID
   */
  create?(store: Store, options: CreateOptions, files?: NewFiles): Flow<void>;
  /** For a new image with these options. @throws ParavaneError INVALID */
  measure?(options: CreateOptions): Measure;
  /** Follows every reference; reads only. @throws ParavaneError as opening does, when there is nothing to go by */
  check?(store: Store, options?: CheckFiles): Flow<CheckReport>;
  /** Gives leaks back; with "all", mends what can be. What is left. @throws ParavaneError CORRUPT when some cannot be */
  repair?(store: Store, what: "leaks" | "all", options?: CheckFiles): Flow<CheckReport>;
}
