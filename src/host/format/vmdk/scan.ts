import type { Flow } from "../../../core/flow.ts";
import { alignUp, isEmpty, read } from "../io.ts";
import { SECTOR } from "./header.ts";
import { grainsOf, tableBytes, type VmdkLayout, zeroEntry } from "./layout.ts";
import { runs } from "./misplaced.ts";

/** Bytes of tables read at a time. */
const RUN = 2 ** 18;

/** Shows each of these grain tables, by sector; those that follow one another in the file are read together. */
export function* eachTable(
  layout: VmdkLayout,
  tables: Uint32Array,
  visit: (table: DataView, index: number) => void,
): Flow {
  const bytes = tableBytes(layout);
  const most = RUN / bytes;
  for (let first = 0; first < tables.length; ) {
    if (tables[first] === 0) {
      first++;
      continue;
    }
    let count = 1;
    while (count < most && tables[first + count] === tables[first] + (count * bytes) / SECTOR) count++;
    const run = yield* read(layout.store, tables[first] * SECTOR, count * bytes);
    for (let i = 0; i < count; i++) visit(new DataView(run.buffer, i * bytes, bytes), first + i);
    first += count;
  }
}

export interface Range {
  start: number;
  end: number;
}

/** What is no grain, ascending, what touches joined. */
export function metadataRanges(layout: VmdkLayout): Range[] {
  const { header, descriptorAt, directory, redundant } = layout;
  const ranges: Range[] = [
    { start: 0, end: header.bytes.length },
    { start: descriptorAt.position, end: descriptorAt.position + descriptorAt.length },
  ];
  const leaf = tableBytes(layout);
  // Entries that no table of the disk needs.
  if (header.cowd) ranges.push({ start: directory.position, end: directory.position + header.cowd.tables * 4 });
  for (const copy of [directory, ...(redundant ? [redundant] : [])]) {
    ranges.push({ start: copy.position, end: copy.position + copy.tables.length * 4 });
    for (const { start, count } of runs(copy.tables, leaf)) ranges.push({ start, end: start + count * leaf });
  }
  ranges.sort((a, b) => a.start - b.start);
  const joined: Range[] = [];
  for (const range of ranges) {
    const last = joined.at(-1);
    if (last && range.start <= last.end) last.end = Math.max(last.end, range.end);
    else joined.push({ ...range });
  }
  return joined;
}

/** All that tables say. In bytes [n × grain, (n + 1) × grain) of the file one grain at most can begin. */
export interface Usage {
  /** Of such a piece, where in it a grain begins, in sectors, plus one; 0: none. A byte or two of memory a grain of the file. */
  pieces: Uint8Array | Uint16Array;
  allocated: number;
  fragmented: number;
  /** Numbers of the tables that are zeros. */
  empty: number[];
  /** Behind the last grain and all metadata; and where a grain may begin there. */
  used: number;
  end: number;
}

/**
 * Looks at every entry; `wrong` is told of those that cannot be, by the byte of the entry and the number of its table.
 * @param tables the sectors of those to look at
 */
export function* survey(
  layout: VmdkLayout,
  wrong: (position: number, what: string, index: number) => void,
  tables = layout.directory.tables,
  metadata = metadataRanges(layout),
): Flow<Usage> {
  const { store, grain, entries } = layout;
  const sectors = grain / SECTOR;
  const zero = zeroEntry(layout);
  const total = grainsOf(layout);
  const usage: Usage = {
    pieces: new (sectors < 256 ? Uint8Array : Uint16Array)(Math.ceil(store.size / grain) + 1),
    allocated: 0,
    fragmented: 0,
    empty: [],
    used: metadata.at(-1)!.end,
    end: alignUp(Math.max(layout.start, metadata.at(-1)!.end), grain),
  };
  const { pieces } = usage;
  let before = 0;
  yield* eachTable(layout, tables, (table, index) => {
    if (isEmpty(table)) {
      usage.empty.push(index);
      return;
    }
    for (let i = 0; i < entries && index * entries + i < total; i++) {
      const sector = table.getUint32(i * 4, true);
      if (sector === 0 || sector === zero) continue;
      const at = tables[index] * SECTOR + i * 4;
      const start = sector * SECTOR;
      if (!mayBe(layout, metadata, start)) {
        wrong(at, `points to byte ${start} in entry ${i}, where no grain can be`, index);
        continue;
      }
      const piece = Math.floor(sector / sectors);
      let free = true;
      for (let near = Math.max(0, piece - 1); near <= piece + 1; near++) {
        if (pieces[near] !== 0 && Math.abs(grainIn(pieces, near, sectors) - sector) < sectors) free = false;
      }
      if (!free) {
        wrong(at, `puts entry ${i} over another grain`, index);
        continue;
      }
      pieces[piece] = sector - piece * sectors + 1;
      usage.allocated++;
      if (before !== 0 && sector !== before + sectors) usage.fragmented++;
      before = sector;
      usage.used = Math.max(usage.used, start + grain);
      usage.end = Math.max(usage.end, alignUp(start + grain, grain));
    }
  });
  return usage;
}

/** The sector of the grain that begins in a piece. */
export const grainIn = (pieces: Usage["pieces"], piece: number, sectors: number): number =>
  piece * sectors + pieces[piece] - 1;

/** May a grain be at that byte? */
function mayBe({ store, grain }: VmdkLayout, metadata: readonly Range[], start: number): boolean {
  return start + grain <= store.size && !meets(metadata, start, start + grain);
}

/** Does a table, by itself, point where grains may be? */
export function soundTable(layout: VmdkLayout, metadata: readonly Range[], table: Uint8Array, index: number): boolean {
  const view = new DataView(table.buffer, table.byteOffset);
  const zero = zeroEntry(layout);
  const count = Math.min(layout.entries, grainsOf(layout) - index * layout.entries);
  for (let i = 0; i < count; i++) {
    const sector = view.getUint32(i * 4, true);
    if (sector !== 0 && sector !== zero && !mayBe(layout, metadata, sector * SECTOR)) return false;
  }
  return true;
}

function meets(ranges: readonly Range[], start: number, end: number): boolean {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ranges[middle].end <= start) low = middle + 1;
    else high = middle;
  }
  return low < ranges.length && ranges[low].start < end;
}
