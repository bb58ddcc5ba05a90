import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CheckReport } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { BITMAP_BYTES, BITMAP_PRESENT, ENTRY_BYTES, entryAt, hasPlace } from "./bat.ts";
import type { VhdxImage } from "./image.ts";
import { MiB } from "./io.ts";
import { openVhdx } from "./open.ts";
import { REGION_TABLE_BYTES, REGION_TABLES } from "./regions.ts";

/** Bytes of the table looked at a time. */
const RUN = 65536;
const MAX_PROBLEMS = 100;

/**
 * Looks at every entry of the table: is it sound, and does nothing else have its place? A log is replayed in memory.
 * Memory grows with the blocks in use, a bit for each MiB. @throws ParavaneError as opening does
 */
export function* checkVhdx(store: Store): Flow<CheckReport> {
  return (yield* check(store)).report;
}

function* check(store: Store): Flow<{ report: CheckReport; image: VhdxImage }> {
  const damage: string[] = [];
  const image = yield* openVhdx(store, { readOnly: true, onWarning: (message) => damage.push(message) });
  const { journal, regions, metadata, table } = image.parts;
  const { bat } = table;
  const report: CheckReport = {
    leaks: 0,
    corruptions: 0,
    problems: [],
    totalClusters: bat.payloadBlocks,
    allocatedClusters: 0,
    compressedClusters: 0,
    imageEndOffset: MiB,
  };
  const note = (kind: "copy" | "structure", structure: string, offset: number, message: string) => {
    report.corruptions++;
    if (report.problems.length < MAX_PROBLEMS) report.problems.push({ kind, structure, offset, message });
  };
  for (const message of damage) {
    if (message.includes("header")) note("copy", "header", 65536, message);
    else if (message.includes("region table")) note("copy", "region table", REGION_TABLES[0], message);
  }

  const used = new Units();
  const take = (position: number, length: number, offset: number, index: number) => {
    report.imageEndOffset = Math.max(report.imageEndOffset, position + length);
    if (used.take(position, length)) return;
    note("structure", "block allocation table", offset, `entry ${index} shares its place with something else`);
  };
  used.take(0, MiB);
  for (const { position, length } of regions.all) {
    report.imageEndOffset = Math.max(report.imageEndOffset, position + length);
    used.take(position, length);
  }
  for (let at = 0; at < bat.entries * ENTRY_BYTES; at += RUN) {
    const bytes = yield* journal.read(regions.bat.position + at, Math.min(RUN, bat.entries * ENTRY_BYTES - at));
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length; i += ENTRY_BYTES) {
      const index = (at + i) / ENTRY_BYTES;
      const entry = entryAt(view, i);
      const bitmap = bat.isBitmapEntry(index);
      const block = index - Math.floor(index / (bat.chunkRatio + 1));
      if (!bitmap && block >= bat.payloadBlocks) continue;
      const fault = bitmap ? table.bitmapFault(entry) : table.fault(block, entry);
      const offset = regions.bat.position + at + i;
      if (fault !== null) note("structure", "block allocation table", offset, `entry ${index} ${fault}`);
      else if (bitmap && metadata.hasParent && entry.state === BITMAP_PRESENT)
        take(entry.position, BITMAP_BYTES, offset, index);
      else if (!bitmap && hasPlace(entry)) {
        report.allocatedClusters++;
        take(entry.position, metadata.blockSize, offset, index);
      }
    }
  }
  report.leaks = Math.max(0, Math.ceil(store.size / MiB) - used.within(store.size));
  if (report.leaks > 0) {
    const message = `${report.leaks} MiB of the file are used by nothing`;
    report.problems.push({ kind: "leak", structure: "file", offset: report.imageEndOffset, message });
  }
  return { report, image };
}

/**
 * Replays the log and gives back what is unused at the end of the file; with "all", also makes both copies of the header
 * and the region table good again. Unused space between blocks stays. @throws ParavaneError CORRUPT when the table is bad,
 * which nothing here can mend
 */
export function* repairVhdx(store: Store, what: "leaks" | "all"): Flow<CheckReport> {
  const { report } = yield* check(store);
  const bad = report.problems.find(({ kind }) => kind === "structure");
  if (bad) {
    const { structure, offset, message } = bad;
    const context = { file: store.name, structure, offset };
    throw new ParavaneError("CORRUPT", `the image is damaged beyond this repair: ${message}`, context);
  }
  const { parts } = yield* openVhdx(store, { readOnly: false });
  if (what === "all" && report.corruptions > 0) {
    const { journal, regions, headers } = parts;
    const table = yield* journal.read(regions.table, REGION_TABLE_BYTES);
    for (const position of REGION_TABLES) yield* journal.change(position, table);
    yield* journal.commit();
    yield* wait(store.flush());
    yield* journal.finish();
    yield* headers.update({});
    yield* headers.update({});
  }
  if (report.imageEndOffset < store.size) {
    yield* wait(store.resize(report.imageEndOffset));
    yield* wait(store.flush());
  }
  return yield* checkVhdx(store);
}

/** Which MiB of the file are taken. */
class Units {
  /** 65,536 units to a part. */
  readonly #parts = new Map<number, Uint8Array>();
  #last = 0;
  #count = 0;

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
      else {
        part[at] |= bit;
        this.#count++;
      }
      this.#last = Math.max(this.#last, unit);
    }
    return free;
  }

  /** How many of those that begin within `size` bytes are taken. */
  within(size: number): number {
    let count = this.#count;
    for (let unit = Math.ceil(size / MiB); unit <= this.#last; unit++) {
      if ((this.#parts.get(Math.floor(unit / 65536))?.[(unit % 65536) >> 3] ?? 0) & (1 << (unit & 7))) count--;
    }
    return count;
  }
}
