import { type Flow, wait } from "../../../core/flow.ts";
import { FOOTER_BYTES, SECTOR } from "./footer.ts";
import { HEADER_BYTES } from "./header.ts";
import { align, copy } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";
import { cut, putEntry } from "./publish.ts";
import { eachEntry, Ground, type Range } from "./table.ts";

/** All that is in use before `Layout.end`, in the order of the file. */
export interface Usage {
  /** Blocks' sectors, ascending. */
  blocks: Uint32Array;
  /** Free bytes between what is in use, and where the last of it ends. */
  gaps: Range[];
  end: number;
}

/** Blocks that no place can be for are left out, as are those whose entries are past the end of the disk. */
export function* usage({ store, size, end }: Layout, dynamic: DynamicLayout): Flow<Usage> {
  const { header, headerPosition, tablePosition } = dynamic;
  const ground = new Ground(dynamic);
  const present = Math.ceil(size / header.blockSize);
  const used = (sector: number, index: number) => index < present && ground.holds(sector, end);
  let count = 0;
  yield* eachEntry(store, tablePosition, header.entries, (sector, index) => {
    if (used(sector, index)) count++;
  });
  const blocks = new Uint32Array(count);
  yield* eachEntry(store, tablePosition, header.entries, (sector, index) => {
    if (count > 0 && used(sector, index)) blocks[--count] = sector;
  });
  blocks.sort();

  const metadata: Range[] = [
    { start: 0, end: FOOTER_BYTES },
    { start: headerPosition, end: headerPosition + HEADER_BYTES },
    { start: tablePosition, end: align(tablePosition + header.entries * 4) },
  ];
  for (const { position, length } of header.parent.locators) {
    if (position + BigInt(length) > BigInt(end)) continue;
    metadata.push({ start: Number(position), end: align(Number(position) + length) });
  }
  metadata.sort((a, b) => a.start - b.start);
  const gaps: Range[] = [];
  let last = 0;
  const take = (start: number, until: number) => {
    if (start > last) gaps.push({ start: last, end: start });
    last = Math.max(last, until);
  };
  let next = 0;
  for (const sector of blocks) {
    for (; next < metadata.length && metadata[next].start < sector * SECTOR; next++) {
      take(metadata[next].start, metadata[next].end);
    }
    take(sector * SECTOR, sector * SECTOR + ground.stride);
  }
  for (; next < metadata.length; next++) take(metadata[next].start, metadata[next].end);
  return { blocks, gaps, end: last };
}

/**
 * Gives back what is not in use: the last blocks move into gaps that hold one, and the file ends after the last that is
 * left. Data is copied where nothing refers to, before the entries change.
 */
export function* compact(layout: Layout, dynamic: DynamicLayout): Flow {
  const { store } = layout;
  const { header, tablePosition } = dynamic;
  const { stride } = new Ground(dynamic);
  const { blocks, gaps } = yield* usage(layout, dynamic);
  /** Where the block at a sector goes. */
  const moves = new Map<number, number>();
  let top = blocks.length - 1;
  for (const gap of gaps) {
    let at = align(gap.start);
    for (; at + stride <= gap.end && top >= 0 && blocks[top] * SECTOR > at; at += stride) {
      moves.set(blocks[top--], at / SECTOR);
    }
  }
  if (moves.size > 0) {
    for (const [from, to] of moves) yield* copy(store, from * SECTOR, to * SECTOR, stride);
    yield* wait(store.flush());
    const changed: [index: number, sector: number][] = [];
    yield* eachEntry(store, tablePosition, header.entries, (sector, index) => {
      const to = moves.get(sector);
      if (to !== undefined) changed.push([index, to]);
    });
    for (const [index, sector] of changed) yield* putEntry(layout, dynamic, index, sector);
    yield* wait(store.flush());
  }
  const { end } = yield* usage(layout, dynamic);
  yield* cut(layout, align(end));
}
