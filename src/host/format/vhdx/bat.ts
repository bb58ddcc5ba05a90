// Block allocation table (MS-VHDX 2.5): 64-bit entries, the low 3 bits a state, the high 44 the place in MiB. After the
// entries of each chunk of payload blocks comes that of the chunk's sector bitmap:
//
//   │ p0 │ p1 │ … │ p(r-1) │ bitmap 0 │ p(r) │ … │ p(2r-1) │ bitmap 1 │ …      r = chunk ratio
import type { Metadata } from "./metadata.ts";

export const State = {
  NotPresent: 0,
  Undefined: 1,
  Zero: 2,
  Unmapped: 3,
  FullyPresent: 6,
  PartiallyPresent: 7,
} as const;
export type State = (typeof State)[keyof typeof State];
/** Of a sector bitmap's entry: it has its block. */
export const BITMAP_PRESENT = 6;

export const ENTRY_BYTES = 8;
/** A sector bitmap block is always 1 MiB: 2^23 sectors. */
export const BITMAP_BYTES = 2 ** 20;

/** Where the entries of a disk are in its table. */
export class BatLayout {
  /** Payload blocks for each sector bitmap block. */
  readonly chunkRatio: number;
  readonly payloadBlocks: number;
  /** All entries that the table needs. */
  readonly entries: number;
  /** Bytes of one block's share of its sector bitmap. */
  readonly bitmapBytes: number;

  constructor({ size, blockSize, logicalSectorSize, hasParent }: Pick<Metadata, keyof typeof SHAPE>) {
    this.chunkRatio = (2 ** 23 * logicalSectorSize) / blockSize;
    this.payloadBlocks = Math.ceil(size / blockSize);
    const chunks = Math.ceil(this.payloadBlocks / this.chunkRatio);
    // Without a parent nothing follows the last payload block.
    this.entries = hasParent ? chunks * (this.chunkRatio + 1) : this.payloadBlocks + Math.max(0, chunks - 1);
    this.bitmapBytes = blockSize / logicalSectorSize / 8;
  }

  payloadEntry(block: number): number {
    return block + Math.floor(block / this.chunkRatio);
  }
  bitmapEntry(block: number): number {
    return (Math.floor(block / this.chunkRatio) + 1) * (this.chunkRatio + 1) - 1;
  }
  /** Whose entry it is, which may be past the disk's end; -1: a sector bitmap's. */
  blockOf(entry: number): number {
    return this.isBitmapEntry(entry) ? -1 : entry - Math.floor(entry / (this.chunkRatio + 1));
  }
  isBitmapEntry(entry: number): boolean {
    return entry % (this.chunkRatio + 1) === this.chunkRatio;
  }
  /** Byte of the sector bitmap block where the block's share is. */
  bitmapOffset(block: number): number {
    return (block % this.chunkRatio) * this.bitmapBytes;
  }
}
const SHAPE = { size: 0, blockSize: 0, logicalSectorSize: 0, hasParent: false };

/** What the map reads in place of an entry: the table without bitmap entries, one meaning a word. */
export const Slot = {
  Absent: 0n,
  Zero: 8n,
  /** The bits that say where, or Absent or Zero. */
  Mask: ~7n,
  /** In the low bits, beside a place: the sector bitmap says which sectors are there. */
  Partial: 1,
  /** In the top bit: the entry is wrong, so that no map takes it for a place; the rest is state and MiB. */
  Wrong: 0x80000000,
} as const;

/** An entry or a slot, taken apart. */
export interface BatEntry {
  state: number;
  /** Bytes. */
  position: number;
}

export function entryAt(view: DataView, at: number): BatEntry {
  const low = view.getUint32(at, true);
  return { state: low & 7, position: (view.getUint32(at + 4, true) * 4096 + (low >>> 20)) * 2 ** 20 };
}

export function entryOf({ state, position }: BatEntry): Uint8Array {
  const bytes = new Uint8Array(ENTRY_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, (position % 2 ** 32) + state, true);
  view.setUint32(4, Math.floor(position / 2 ** 32), true);
  return bytes;
}

/** Writes the slot of a sound entry. */
export function putSlot(view: DataView, at: number, { state, position }: BatEntry): void {
  const present = state === State.FullyPresent || state === State.PartiallyPresent;
  const low = present ? position % 2 ** 32 : state === State.NotPresent ? 0 : Number(Slot.Zero);
  view.setUint32(at, low + (state === State.PartiallyPresent ? Slot.Partial : 0), true);
  view.setUint32(at + 4, present ? Math.floor(position / 2 ** 32) : 0, true);
}

export function putWrongSlot(view: DataView, at: number, { state, position }: BatEntry): void {
  const unit = position / 2 ** 20;
  view.setUint32(at, ((unit % 2 ** 29) * 8 + state) >>> 0, true);
  view.setUint32(at + 4, (Slot.Wrong + Math.floor(unit / 2 ** 29)) >>> 0, true);
}

/** The entry that the slot stands for; `wrong` when it could not be used. */
export function slotAt(view: DataView, at: number): BatEntry & { wrong: boolean } {
  const low = view.getUint32(at, true);
  const high = view.getUint32(at + 4, true);
  if (high >= Slot.Wrong) {
    const unit = (high - Slot.Wrong) * 2 ** 29 + (low >>> 3);
    return { state: low & 7, position: unit * 2 ** 20, wrong: true };
  }
  if (high === 0 && low === 0) return { state: State.NotPresent, position: 0, wrong: false };
  if (high === 0 && low === Number(Slot.Zero)) return { state: State.Zero, position: 0, wrong: false };
  const partial = (low & Slot.Partial) !== 0;
  return {
    state: partial ? State.PartiallyPresent : State.FullyPresent,
    position: high * 2 ** 32 + low - (partial ? Slot.Partial : 0),
    wrong: false,
  };
}

/** Does a block in this state have a place of its own? */
export function hasPlace({ state }: { state: number }): boolean {
  return state === State.FullyPresent || state === State.PartiallyPresent;
}
