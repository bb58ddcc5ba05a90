import { type Flow, wait } from "../../../core/flow.ts";
import { copy, write } from "../io.ts";
import { SECTOR } from "./header.ts";
import type { VmdkLayout } from "./layout.ts";
import { eachTable, grainIn, metadataRanges, type Usage } from "./scan.ts";

/** Ascending numbers of the pieces of the file that hold neither a grain nor metadata. */
export function* freePieces(layout: VmdkLayout, { pieces }: Usage): Generator<number> {
  const { grain, store, start } = layout;
  const used = metadataRanges(layout);
  let next = 0;
  // The grain before it may end in it.
  const reached = (piece: number) => pieces[piece] !== 0 || (piece > 0 && pieces[piece - 1] > 1);
  for (let piece = Math.floor(start / grain); (piece + 1) * grain <= store.size; piece++) {
    while (next < used.length && used[next].end <= piece * grain) next++;
    const metadata = next < used.length && used[next].start < (piece + 1) * grain;
    if (!metadata && !reached(piece)) yield piece;
  }
}

/**
 * Moves the last grains into gaps. Each is in both places until all copies are durable; then the entries are changed, the
 * copies' first. Memory grows by five bytes a grain of the file.
 */
export function* compact(layout: VmdkLayout, usage: Usage): Flow {
  const { store, grain, directory, redundant, entries } = layout;
  const { pieces } = usage;
  const sectors = grain / SECTOR;
  const gaps = freePieces(layout, usage);
  let gap = gaps.next();
  if (gap.done) return;
  const owners = new Uint32Array(pieces.length);
  yield* eachTable(layout, directory.tables, (table, index) => {
    for (let i = 0; i < entries; i++) {
      const sector = table.getUint32(i * 4, true);
      const piece = Math.floor(sector / sectors);
      if (sector > 1 && pieces[piece] > 0 && grainIn(pieces, piece, sectors) === sector)
        owners[piece] = index * entries + i;
    }
  });
  const moved: [owner: number, sector: number][] = [];
  for (let piece = pieces.length - 1; piece >= 0 && !gap.done && gap.value < piece; piece--) {
    if (pieces[piece] === 0) continue;
    yield* copy(store, grainIn(pieces, piece, sectors) * SECTOR, gap.value * grain, grain);
    moved.push([owners[piece], gap.value * sectors]);
    gap = gaps.next();
  }
  yield* wait(store.flush());
  for (const tables of [redundant?.tables, directory.tables]) {
    for (const [owner, sector] of tables ? moved : []) {
      const at = tables![Math.floor(owner / entries)] * SECTOR + (owner % entries) * 4;
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, sector, true);
      yield* write(store, at, bytes);
    }
    yield* wait(store.flush());
  }
}
