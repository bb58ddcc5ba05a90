import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { clearLastBlock, compact, move } from "../blocks/compact.ts";
import { blocksOf, eachUsed, endOf, entryFor, isSound, placeOf, usedValues } from "../blocks/layout.ts";
import { alignUp, clear, corrupt, fill, read, write } from "../io.ts";
import { checkedSize, littleEndian } from "./create.ts";
import { changedHeader, FREE, type Header, type HeaderChange, ImageType, parseHeader, SECTOR } from "./header.ts";
import { layoutOf, type VdiLayout } from "./layout.ts";

/** Bytes of the map copied at a time. */
const RUN = 2 ** 20;

/** Changes the size, durably; at every step the image has the old one or the new. @returns the new header */
export function* resizeVdi(layout: VdiLayout, wanted: number, backing: Block | undefined): Flow<Header> {
  const { store } = layout;
  const size = checkedSize(wanted, layout.blockSize);
  if (wanted % SECTOR !== 0 || size === 0) {
    const hint = `Give whole sectors of ${SECTOR} bytes`;
    throw new ParavaneError("INVALID", `a VDI cannot be ${wanted} bytes`, { file: store.name }, { hint });
  }
  if (size > layout.size && layout.hasParent && (backing?.size ?? 0) > layout.size) {
    const context = { file: store.name, parentSize: backing!.size };
    const hint = "Make the change in a disk without a parent";
    const message = "a differencing VDI smaller than its parent cannot grow: the new bytes would be the parent's";
    throw new ParavaneError("UNSUPPORTED", message, context, { hint });
  }
  if (size < layout.size) yield* shrink(layout, size);
  else if (size > layout.size) yield* grow(layout, size);
  return layout.header;
}

export function* changeHeader(layout: VdiLayout, change: HeaderChange): Flow {
  const bytes = changedHeader(layout.header, change);
  yield* write(layout.store, 0, bytes);
  yield* wait(layout.store.flush());
  Object.assign(layout, layoutOf(layout.store, parseHeader(bytes)!));
}

/** Fewer blocks: their number first, then the space of those past it. */
function* shrink(layout: VdiLayout, size: number): Flow {
  yield* changeHeader(layout, { size, blocks: Math.ceil(size / layout.blockSize) });
  yield* recount(layout);
}

/** Closes gaps between blocks, and counts them. */
export function* recount(layout: VdiLayout): Flow {
  const end = yield* compact(layout);
  const allocated = entryFor(layout, end);
  if (layout.header.allocated !== allocated) yield* changeHeader(layout, { allocated });
}

/** More blocks. New entries come before the header that shows them. */
function* grow(layout: VdiLayout, size: number): Flow {
  const { store, header, blockSize, table } = layout;
  yield* clearLastBlock(layout);
  const blocks = Math.max(table.entries, Math.ceil(size / blockSize));
  const fixed = header.type === ImageType.Fixed;
  // What those past the end say may be left over.
  yield* fill(store, table.position + blocksOf(layout) * 4, table.position + table.entries * 4, 0xff);
  let change: HeaderChange = { size, blocks };
  if (table.position + blocks * 4 > layout.start) change = { ...change, ...(yield* moveTable(layout, blocks)) };
  else yield* fill(store, table.position + table.entries * 4, table.position + blocks * 4, 0xff);
  yield* wait(store.flush());
  yield* changeHeader(layout, change);
  if (fixed) yield* fillFixed(layout);
}

/** A fixed disk has all its blocks. */
function* fillFixed(layout: VdiLayout): Flow {
  const { store, table, stride } = layout;
  const used = new Uint8Array(Math.ceil(table.entries / 8));
  yield* eachUsed(layout, (_, index) => {
    used[index >> 3] |= 1 << (index & 7);
  });
  let end = endOf(layout, yield* usedValues(layout));
  const missing: number[] = [];
  for (let i = 0; i < table.entries; i++) if (!((used[i >> 3] >> (i & 7)) & 1)) missing.push(i);
  const first = entryFor(layout, end);
  yield* clear(store, end, end + missing.length * stride);
  end += missing.length * stride;
  yield* changeHeader(layout, { allocated: entryFor(layout, end) });
  for (const [i, index] of missing.entries()) {
    yield* write(store, table.position + index * 4, littleEndian(Uint32Array.of(first + i)));
  }
  yield* wait(store.flush());
}

/**
 * A larger map where the first blocks are, which go to the end of the file. The rest then begin after it, so that all entries
 * are less by as many blocks as have gone: a new map says so, and one write of the header makes it current.
 *
 *   header │ old map │ block 0 │ block 1 │ block 2 │ …          before
 *   header │ (free)  │ new map …         │ block 2 │ … │ 0 │ 1  after
 */
function* moveTable(layout: VdiLayout, blocks: number): Flow<HeaderChange> {
  const { store, start, stride, table } = layout;
  // The space of an older map is used again when it is large enough.
  const behind = start - alignUp(table.position + table.entries * 4, SECTOR);
  const front = Math.min(start, table.position) - SECTOR;
  const needed = blocks * 4;
  let [position, shift] = [start, Math.ceil(needed / stride)];
  if (needed <= front) [position, shift] = [SECTOR, 0];
  else if (needed <= behind) [position, shift] = [start - behind, 0];
  if (start + shift * stride > 0xffffffff) {
    throw new ParavaneError("NO_SPACE", "the block map would end past 4 GiB", { file: store.name });
  }
  yield* vacate(layout, shift);
  const { entries } = table;
  if (position + needed > store.size) yield* wait(store.resize(position + needed));
  for (let at = 0; at < entries * 4; at += RUN) {
    const bytes = yield* read(store, table.position + at, Math.min(RUN, entries * 4 - at));
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length; i += 4) {
      const value = view.getUint32(i, true);
      if (value >= FREE - 1) continue;
      if (!isSound(layout, value)) {
        throw corrupt(
          store,
          table.name,
          table.position + at + i,
          `points to byte ${placeOf(layout, value)}, where no block can be`,
        );
      }
      view.setUint32(i, value - shift, true);
    }
    yield* write(store, position + at, bytes);
  }
  yield* fill(store, position + entries * 4, position + needed, 0xff);
  const dataOffset = start + shift * stride;
  if (store.size < dataOffset) yield* wait(store.resize(dataOffset));
  const allocated = Math.max(0, entryFor(layout, endOf(layout, yield* usedValues(layout))) - shift);
  return { tableOffset: position, dataOffset, allocated };
}

/** The first `count` places become free: the blocks there go behind all others. */
function* vacate(layout: VdiLayout, count: number): Flow {
  const { store, stride } = layout;
  const values = yield* usedValues(layout);
  let next = Math.max(count, entryFor(layout, endOf(layout, values)));
  const moves = new Map<number, number>();
  for (const value of values) if (value < count) moves.set(value, next++);
  if (moves.size === 0) return;
  const end = placeOf(layout, next - 1) + stride;
  if (end > store.size) yield* wait(store.resize(end));
  // Other products put a new block where the count says.
  yield* changeHeader(layout, { allocated: Math.max(layout.header.allocated, next) });
  yield* move(layout, moves);
}
