import type { Flow } from "../../../core/flow.ts";
import { type BatEntry, BITMAP_BYTES, BITMAP_PRESENT, ENTRY_BYTES, entryAt, hasPlace, State } from "./bat.ts";
import type { Layout } from "./image.ts";
import { MiB } from "./io.ts";
import type { BlockTable } from "./table.ts";

/** Bytes of the table looked at a time. */
const RUN = 65536;

/** Its block; of a sector bitmap's entry, -1. */
type Visit = (index: number, block: number, entry: BatEntry) => Flow | undefined;

/** Visits every entry of the table but those of nothing (all zeros), in order. */
export function* eachEntry({ journal, regions }: Layout, { bat }: BlockTable, visit: Visit): Flow {
  for (let at = 0; at < bat.entries * ENTRY_BYTES; at += RUN) {
    const length = Math.min(RUN, bat.entries * ENTRY_BYTES - at);
    const { buffer } = yield* journal.read(regions.bat.position + at, length);
    const words = new BigUint64Array(buffer);
    const view = new DataView(buffer);
    for (let i = 0; i < words.length; i++) {
      if (words[i] === 0n) continue;
      const index = at / ENTRY_BYTES + i;
      const block = bat.blockOf(index);
      // Past the last block of a differencing disk's last chunk nothing is said.
      if (block >= bat.payloadBlocks) continue;
      const more = visit(index, block, entryAt(view, i * ENTRY_BYTES));
      if (more) yield* more;
    }
  }
}

/** What the file's MiB are used for, as the table says. */
export interface Survey {
  units: Units;
  /** Blocks that have a place. */
  blocks: number;
  /** First byte that nothing in use reaches. */
  end: number;
}

/** Marks all that is in use; tells of each entry that is wrong, by itself or because something else has its place. */
export function* survey(
  layout: Layout,
  table: BlockTable,
  wrong: (index: number, fault: string) => void,
): Flow<Survey> {
  const { regions, metadata } = layout;
  const found: Survey = { units: new Units(), blocks: 0, end: MiB };
  const take = (position: number, length: number) => {
    found.end = Math.max(found.end, position + length);
    return found.units.take(position, length);
  };
  take(0, MiB);
  for (const { position, length } of regions.all) take(position, length);
  const { chunkRatio } = table.bat;
  /** The first block of its chunk that cannot do without a sector bitmap, which comes later if it comes. */
  let partial = { index: -1, chunk: -1 };
  const missing = () => wrong(partial.index, "is of a block partly there, whose chunk has no sector bitmap");
  yield* eachEntry(layout, table, (index, block, entry) => {
    const bitmap = block < 0;
    const chunk = Math.floor(index / (chunkRatio + 1));
    if (partial.chunk >= 0 && (bitmap || chunk !== partial.chunk)) {
      if (chunk !== partial.chunk || entry.state !== BITMAP_PRESENT) missing();
      partial = { index: -1, chunk: -1 };
    }
    if (!bitmap && entry.state === State.PartiallyPresent && partial.chunk < 0) partial = { index, chunk };
    const fault = bitmap ? table.bitmapFault(entry) : table.fault(block, entry);
    const placed = bitmap ? metadata.hasParent && entry.state === BITMAP_PRESENT : hasPlace(entry);
    if (fault !== null) wrong(index, fault);
    else if (placed) {
      if (!bitmap) found.blocks++;
      if (!take(entry.position, bitmap ? BITMAP_BYTES : metadata.blockSize))
        wrong(index, "shares its place with something else");
    }
    return undefined;
  });
  if (partial.chunk >= 0) missing();
  return found;
}

/** Which MiB of the file are taken: a bit each. */
class Units {
  /** 65,536 units to a part. */
  readonly #parts = new Map<number, Uint8Array>();

  /** False when any of them was taken before. */
  take(position: number, length: number): boolean {
    let free = true;
    for (let unit = position / MiB; unit < (position + length) / MiB; unit++) {
      const number = Math.floor(unit / 65536);
      let part = this.#parts.get(number);
      if (!part) this.#parts.set(number, (part = new Uint8Array(8192)));
      const at = (unit % 65536) >> 3;
      const bit = 1 << (unit & 7);
      if (part[at] & bit) free = false;
      part[at] |= bit;
    }
    return free;
  }
}
