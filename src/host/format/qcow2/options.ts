import { ParavaneError } from "../../../core/error.ts";
import type { CreateOptions, OpenOptions } from "../../../core/format.ts";
import type { Unlocking } from "../../../core/secret.ts";
import type { LuksPlan } from "../../crypto/luks/index.ts";
import { type EncryptionOption, planEncryption } from "./encryption.ts";
import { Autoclear, Compatible, Incompatible, l1Entries, MAX_L1_BYTES, SECTOR } from "./header.ts";
import { formatName, nameBytes } from "./parent.ts";

interface Qcow2CreateOptions extends CreateOptions {
  /** Bytes, a power of two from 512 to 2 MiB. */
  clusterSize?: number;
  /** "1.1" is version 3, "0.10" version 2, which has none of the options below but a parent and preallocation. */
  compat?: "1.1" | "v3" | "0.10" | "v2";
  /** A power of two from 1 to 64. */
  refcountBits?: number;
  /** Refcounts are written when the image is closed; one that was not closed is repaired before it is written again. */
  lazyRefcounts?: boolean;
  /** Subclusters: a 32nd of a cluster can be allocated alone. Clusters of at least 16 KiB. */
  extendedL2?: boolean;
  compressionType?: "zlib" | "zstd";
  /**
   * Gives every cluster a place: "metadata" alone; "full" with zeros written; "falloc" with the space reserved where the
   * store can do that, and zeros written elsewhere.
   */
  preallocation?: Preallocation;
  /** The parent's name and format as they are to stand in the image; or `parent`. */
  backingFile?: string;
  backingFormat?: string;
  /** Keeps guest data in another file, named like this, which the caller makes. */
  dataFile?: string;
  /** That file is always the whole disk, raw. */
  dataFileRaw?: boolean;
  /** Opens the data file to give it its size, which otherwise is left as it is. */
  openFile?: OpenOptions["openFile"];
  /** Encrypts guest data; a passphrase or a key is needed then. */
  encryption?: EncryptionOption;
  passphrase?: Unlocking["passphrase"];
  volumeKey?: Unlocking["volumeKey"];
  kdf?: Unlocking["kdf"];
}
type Preallocation = "off" | "metadata" | "falloc" | "full";

/** What an image is to be, checked. Sizes and positions are bytes. */
export interface Plan {
  v3: boolean;
  size: number;
  clusterBits: number;
  refcountOrder: number;
  incompatible: bigint;
  compatible: bigint;
  autoclear: bigint;
  /** Entries. */
  l1Size: number;
  zstd: boolean;
  preallocation: Preallocation;
  backingFile?: Uint8Array;
  backingFormat?: string;
  dataFile?: string;
  openFile?: OpenOptions["openFile"];
  luks: LuksPlan | undefined;
  unlocking: Unlocking;
}

const KNOWN =
  "clusterSize, compat, refcountBits, lazyRefcounts, extendedL2, compressionType, preallocation, backingFile, " +
  "backingFormat, dataFile, dataFileRaw, encryption, passphrase, volumeKey, kdf, parent";

/** @throws ParavaneError INVALID */
export function plan(options: CreateOptions): Plan {
  const {
    size: wanted,
    clusterSize = 65536,
    compat = "1.1",
    refcountBits = 16,
    lazyRefcounts = false,
    extendedL2 = false,
    compressionType = "zlib",
    preallocation = "off",
    parent,
    backingFile = parent?.path,
    backingFormat = parent?.format === undefined ? undefined : formatName(parent.format),
    dataFile,
    dataFileRaw = false,
    openFile,
    encryption,
    passphrase,
    volumeKey,
    kdf,
    ...unknown
  } = options as Qcow2CreateOptions;
  const [name] = Object.keys(unknown);
  if (name !== undefined) throw invalid(`qcow2 images have no option "${name}"`, `Known: ${KNOWN}`);
  const v3 = oneOf("compat", compat, ["1.1", "v3"], ["0.10", "v2"]);
  const clusterBits = Math.log2(clusterSize);
  if (!Number.isInteger(clusterBits) || clusterBits < 9 || clusterBits > 21) {
    throw invalid(`Cluster size must be a power of two between 512 and 2048k, not ${clusterSize}`);
  }
  const refcountOrder = Math.log2(refcountBits);
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > 6) {
    throw invalid(`a refcount cannot have ${refcountBits} bits`, "Give a power of two from 1 to 64");
  }
  if (extendedL2 && clusterBits < 14) throw invalid("subclusters need clusters of at least 16384 bytes");
  const zstd = oneOf("compression type", compressionType, ["zstd"], ["zlib"]);
  if (!v3 && (refcountBits !== 16 || lazyRefcounts || extendedL2 || zstd || dataFile !== undefined)) {
    throw invalid("version 2 (compat 0.10) has only 16-bit refcounts, and none of the other features");
  }
  if (parent && (options.backingFile !== undefined || options.backingFormat !== undefined)) {
    throw invalid("the parent is named twice", "Give parent, or backingFile and backingFormat");
  }
  if (backingFormat !== undefined && backingFile === undefined) throw invalid("a parent's format without a parent");
  if (dataFileRaw && dataFile === undefined) throw invalid("a raw data file without its name");
  if (dataFileRaw && backingFile !== undefined) throw invalid("an image with a raw data file cannot have a parent");
  if (!Number.isSafeInteger(wanted) || wanted < 0)
    throw invalid(`an image cannot be ${wanted} bytes`, "Give its size, whole bytes");
  const allocates = oneOf("preallocation", preallocation, ["metadata", "falloc", "full"], ["off"]);
  if (allocates && backingFile !== undefined && !extendedL2) {
    throw invalid("clusters that have their place would hide the parent", "Use extendedL2, or no preallocation");
  }
  const luks = planEncryption(encryption);
  if (!luks && (passphrase || volumeKey)) throw invalid("a passphrase without encryption", 'Give encryption: "luks"');
  if (luks && dataFileRaw) throw invalid("a raw data file cannot be encrypted");
  if (luks && !v3 && allocates) throw invalid("an encrypted image of version 2 cannot be preallocated");
  const size = Math.ceil(wanted / SECTOR) * SECTOR;
  const incompatible =
    (extendedL2 ? Incompatible.ExtendedL2 : 0n) |
    (zstd ? Incompatible.Compression : 0n) |
    (dataFile === undefined ? 0n : Incompatible.DataFile);
  const l1Size = l1Entries({ size, clusterBits, incompatible });
  if (l1Size * 8 > MAX_L1_BYTES) {
    throw invalid(`${size} bytes are too many for clusters of ${clusterSize}`, "Make them larger");
  }
  return {
    v3,
    size,
    clusterBits,
    refcountOrder,
    incompatible,
    compatible: lazyRefcounts ? Compatible.LazyRefcounts : 0n,
    autoclear: dataFileRaw ? Autoclear.RawDataFile : 0n,
    l1Size,
    zstd,
    // What is written to a raw data file by others is to be seen, so all of it has its place from the start.
    preallocation: dataFileRaw && preallocation === "off" ? "metadata" : preallocation,
    backingFile: backingFile === undefined ? undefined : nameBytes(backingFile),
    backingFormat,
    dataFile,
    openFile,
    luks,
    unlocking: { ...(passphrase && { passphrase }), ...(volumeKey && { volumeKey }), ...(kdf && { kdf }) },
  };
}

function oneOf(what: string, value: string, yes: string[], no: string[]): boolean {
  if (yes.includes(value)) return true;
  if (no.includes(value)) return false;
  throw invalid(`there is no ${what} "${value}"`, `Known: ${[...no, ...yes].join(", ")}`);
}

export function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
