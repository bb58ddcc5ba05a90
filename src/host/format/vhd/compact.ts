import { type Flow, wait } from "../../../core/flow.ts";
import { FOOTER_BYTES, SECTOR } from "./footer.ts";
import { HEADER_BYTES } from "./header.ts";
import { align, copy } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";
import { headerHome, presentHomes, presentParent, writeParent } from "./parent.ts";
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
  for (const { position, length, space } of header.parent.locators) {
    if (position + BigInt(length) > BigInt(end)) continue;
    metadata.push({ start: Number(position), end: Math.min(end, align(Number(position) + space)) });
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

/** Moving the texts may make a gap that a block fits into; it need not be followed for ever. */
const MAX_ROUNDS = 8;

/**
 * Gives back what is not in use: the last blocks move into gaps that hold one, and the file ends after the last that is
 * left. Data is copied where nothing refers to, before the entries change.
 */
export function* compact(layout: Layout, dynamic: DynamicLayout): Flow {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    yield* moveBlocks(layout, dynamic);
    const { gaps } = yield* usage(layout, dynamic);
    const homes = homesFor(dynamic, gaps);
    // Where a power cut has left it, at the end.
    const away = (yield* headerHome(layout, dynamic)) !== dynamic.headerPosition;
    if (!homes && !away) break;
    const parent = dynamic.parent && (yield* presentParent(layout, dynamic));
    yield* writeParent(layout, dynamic, parent, homes ?? (yield* presentHomes(layout, dynamic)));
  }
  yield* cut(layout, align((yield* usage(layout, dynamic)).end));
}

function* moveBlocks(layout: Layout, dynamic: DynamicLayout): Flow {
  const { store } = layout;
  const { header, tablePosition } = dynamic;
  const ground = new Ground(dynamic);
  const { stride } = ground;
  const { blocks, gaps } = yield* usage(layout, dynamic);
  /** Where the block at a sector goes. */
  const moves = new Map<number, number>();
  let top = blocks.length - 1;
  for (const gap of gaps) {
    let at = ground.within(gap.start, gap.end);
    while (at + stride <= gap.end && top >= 0 && blocks[top] * SECTOR > at) {
      moves.set(blocks[top--], at / SECTOR);
      at = ground.within(at + stride, gap.end);
    }
  }
  if (moves.size === 0) return;
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

/** A gap that no block is left for goes to the texts of the parent, which lie behind it. */
function homesFor(dynamic: DynamicLayout, gaps: readonly Range[]): Range[] | null {
  const { locators } = dynamic.header.parent;
  if (!dynamic.parent) return null;
  const { stride } = new Ground(dynamic);
  const total = locators.reduce((sum, { space }) => sum + space, 0);
  const gap = gaps.find(({ start, end }) => end - align(start) >= Math.max(stride, total));
  if (!gap || locators.every(({ position }) => Number(position) < gap.start)) return null;
  let at = align(gap.start);
  return locators.map(({ space }) => ({ start: at, end: (at += space) }));
}
