import type { Flow } from "../../../core/flow.ts";
import { alignUp, read } from "../io.ts";
import { SECTOR } from "./header.ts";
import { grainsOf, tableBytes, type VmdkLayout, zeroEntry } from "./layout.ts";

/** Bytes of tables read at a time. */
const RUN = 2 ** 18;

/** Shows each grain table of one copy; those that follow one another in the file are read together. */
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

interface Range {
  start: number;
  end: number;
}

/** What is no grain, ascending, what touches joined. */
export function metadataRanges(layout: VmdkLayout): Range[] {
  const { descriptorAt, directory, redundant } = layout;
  const ranges: Range[] = [
    { start: 0, end: SECTOR },
    { start: descriptorAt.position, end: descriptorAt.position + descriptorAt.length },
  ];
  for (const copy of [directory, ...(redundant ? [redundant] : [])]) {
    ranges.push({ start: copy.position, end: copy.position + copy.tables.length * 4 });
    for (const at of copy.tables) {
      if (at > 0) ranges.push({ start: at * SECTOR, end: at * SECTOR + tableBytes(layout) });
    }
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

/** Tables that lie over each other or over other metadata: a change to one would change the other. */
export function tablesOverlap(layout: VmdkLayout): boolean {
  const { directory, redundant, descriptorAt } = layout;
  let total = SECTOR + descriptorAt.length;
  for (const copy of [directory, ...(redundant ? [redundant] : [])]) {
    total += copy.tables.length * 4;
    for (const at of copy.tables) if (at > 0) total += tableBytes(layout);
  }
  return metadataRanges(layout).reduce((sum, { start, end }) => sum + end - start, 0) < total;
}

/** All that tables say. In bytes [n × grain, (n + 1) × grain) of the file one grain at most can begin. */
export interface Usage {
  /** Of such a piece, the sector where a grain begins; 0: none. Four bytes of memory a grain of the file. */
  pieces: Uint32Array;
  allocated: number;
  fragmented: number;
  /** Behind the last grain and all metadata, where a grain may begin. */
  end: number;
}

/** Looks at every entry; `wrong` is told of those that cannot be, by the byte of the entry. */
export function* survey(layout: VmdkLayout, wrong: (position: number, what: string) => void): Flow<Usage> {
  const { store, grain, entries, directory } = layout;
  const sectors = grain / SECTOR;
  const zero = zeroEntry(layout);
  const metadata = metadataRanges(layout);
  const total = grainsOf(layout);
  const usage: Usage = {
    pieces: new Uint32Array(Math.ceil(store.size / grain) + 1),
    allocated: 0,
    fragmented: 0,
    end: alignUp(Math.max(layout.start, metadata.at(-1)!.end), grain),
  };
  const { pieces } = usage;
  let before = 0;
  yield* eachTable(layout, directory.tables, (table, index) => {
    for (let i = 0; i < entries && index * entries + i < total; i++) {
      const sector = table.getUint32(i * 4, true);
      if (sector === 0 || sector === zero) continue;
      const at = directory.tables[index] * SECTOR + i * 4;
      const start = sector * SECTOR;
      if (start + grain > store.size || meets(metadata, start, start + grain)) {
        wrong(at, `points to byte ${start} in entry ${i}, where no grain can be`);
        continue;
      }
      const piece = Math.floor(sector / sectors);
      let free = true;
      for (let near = Math.max(0, piece - 1); near <= piece + 1; near++) {
        if (pieces[near] !== 0 && Math.abs(pieces[near] - sector) < sectors) free = false;
      }
      if (!free) {
        wrong(at, `puts entry ${i} over another grain`);
        continue;
      }
      pieces[piece] = sector;
      usage.allocated++;
      if (before !== 0 && sector !== before + sectors) usage.fragmented++;
      before = sector;
      usage.end = Math.max(usage.end, alignUp(start + grain, grain));
    }
  });
  return usage;
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
