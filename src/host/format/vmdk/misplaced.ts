import { SECTOR } from "./header.ts";

interface Copy {
  /** Bytes. */
  position: number;
  /** Sectors; 0 where there is no table. */
  tables: Uint32Array;
}

/** What lies somewhere in the file: a structure that has one place, or tables that follow one another. */
interface Item {
  start: number;
  end: number;
  /** Of tables: their directory, and the number of the first. */
  of?: { bad: Set<number>; first: number };
}

/** The numbers of tables that a directory puts where they cannot be, ascending. */
export interface Misplaced {
  first: number[];
  second: number[];
  /** Structures with one place alone lie over each other. */
  others: boolean;
}

interface Where {
  /** Bytes of the file, and of a table. */
  size: number;
  leaf: number;
  /** What is neither a directory nor a table. */
  fixed: readonly { position: number; length: number }[];
  unclean: boolean;
}

/**
 * Tables outside the file, over other tables, or over other metadata: of two that meet, either may be the wrong one. So are those
 * that one copy alone has; but a disk that was not closed properly may have the second without the first.
 */
export function misplacedTables(
  { size, leaf, fixed, unclean }: Where,
  first: Copy,
  second: Copy | undefined,
): Misplaced {
  const items: Item[] = fixed
    .filter(({ length }) => length > 0)
    .map(({ position, length }) => ({ start: position, end: position + length }));
  const bad = [new Set<number>(), new Set<number>()];
  for (const [i, copy] of [first, second].entries()) {
    if (!copy) continue;
    items.push({ start: copy.position, end: copy.position + copy.tables.length * 4 });
    for (const item of runs(copy.tables, leaf)) {
      const of = { bad: bad[i], first: item.first };
      const inside = Math.min(item.count, Math.max(0, Math.floor((size - item.start) / leaf)));
      for (let number = inside; number < item.count; number++) bad[i].add(item.first + number);
      if (inside > 0) items.push({ start: item.start, end: item.start + inside * leaf, of });
    }
  }
  for (let i = 0; second && i < first.tables.length; i++) {
    if (first.tables[i] !== 0 && second.tables[i] === 0) bad[1].add(i);
    if (first.tables[i] === 0 && second.tables[i] !== 0 && !unclean) bad[0].add(i);
  }
  let others = false;
  items.sort((a, b) => a.start - b.start);
  let reach: Item | undefined;
  for (const item of items) {
    if (reach && item.start < reach.end) {
      others ||= !item.of && !reach.of;
      const end = Math.min(item.end, reach.end);
      for (const each of [item, reach]) blame(each, item.start, end, leaf);
    }
    if (!reach || item.end > reach.end) reach = item;
  }
  const ascending = (set: Set<number>) => [...set].sort((a, b) => a - b);
  return { first: ascending(bad[0]), second: ascending(bad[1]), others };
}

/** Tables of which each follows the one before it in the file. */
export function* runs(tables: Uint32Array, leaf: number): Generator<{ first: number; count: number; start: number }> {
  const step = leaf / SECTOR;
  for (let first = 0; first < tables.length; ) {
    let count = 1;
    if (tables[first] !== 0) {
      while (tables[first + count] === tables[first] + count * step) count++;
      yield { first, count, start: tables[first] * SECTOR };
    }
    first += count;
  }
}

function blame({ start, of }: Item, from: number, to: number, leaf: number): void {
  if (!of) return;
  for (let i = Math.floor((from - start) / leaf); start + i * leaf < to; i++) of.bad.add(of.first + i);
}
