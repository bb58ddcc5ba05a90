import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { compact } from "./compact.ts";
import { changedFooter, FOOTER_BYTES, MAX_SIZE, SECTOR } from "./footer.ts";
import { changedHeader, HEADER_BYTES, UNUSED } from "./header.ts";
import { align, copy, corrupt, fill, read, write } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";
import { headerHome, presentParent, writeParent } from "./parent.ts";
import { extend, footers, putEntry } from "./publish.ts";
import { eachEntry, Ground } from "./table.ts";

/** @throws ParavaneError INVALID */
export function checkSize({ store }: Layout, size: number): void {
  if (Number.isSafeInteger(size) && size > 0 && size <= MAX_SIZE && size % SECTOR === 0) return;
  const hint = `Give whole sectors of ${SECTOR} bytes, ${MAX_SIZE} at most`;
  throw new ParavaneError("INVALID", `a VHD cannot be ${size} bytes`, { file: store.name }, { hint });
}

/**
 * A fixed disk. The file ends with a footer at every step: first the old one again where the new will be, then zeros over
 * the old place, and the new size last.
 */
export function* resizeFixed(layout: Layout, size: number): Flow {
  const { store, end } = layout;
  checkSize(layout, size);
  if (size > end) {
    yield* write(store, size, changedFooter(layout.footer, {}));
    yield* wait(store.flush());
    layout.end = size;
  }
  // What is new is zeros: the old footer, and what a geometry had hidden behind the old size.
  if (size > layout.size) {
    yield* fill(store, layout.size, Math.min(size, end + FOOTER_BYTES), 0);
    yield* wait(store.flush());
  }
  yield* footers(layout, { size });
  if (size < end) {
    yield* write(store, size, layout.footer.bytes);
    yield* wait(store.flush());
    yield* wait(store.resize(size + FOOTER_BYTES));
    yield* wait(store.flush());
  }
}

/** Fewer blocks: the size first, then the entries that are past it, then their space. */
export function* shrink(layout: Layout, dynamic: DynamicLayout, size: number): Flow {
  const { store } = layout;
  const { header, headerPosition, tablePosition } = dynamic;
  yield* footers(layout, { size });
  const entries = Math.ceil(size / header.blockSize);
  yield* fill(store, tablePosition + entries * 4, tablePosition + header.entries * 4, 0xff);
  yield* wait(store.flush());
  header.bytes = changedHeader(header.bytes, { entries });
  yield* write(store, headerPosition, header.bytes.subarray(0, SECTOR));
  yield* wait(store.flush());
  header.entries = entries;
  yield* compact(layout, dynamic);
}

/**
 * More blocks. The table stays where it is, as every product expects: what lies behind it moves to the end of the file as
 * far as the table needs its place. Then come the new entries, their number, and at last the size.
 */
export function* grow(layout: Layout, dynamic: DynamicLayout, size: number): Flow {
  const { store } = layout;
  const { header, tablePosition } = dynamic;
  yield* clearLastBlock(layout, dynamic);
  const present = Math.ceil(layout.size / header.blockSize);
  const entries = Math.max(header.entries, Math.ceil(size / header.blockSize));
  const tableEnd = align(tablePosition + entries * 4);
  if (entries > header.entries) yield* makeRoom(layout, dynamic, tableEnd);
  // Those past the end may be left over from a disk that was larger.
  yield* fill(
    store,
    tablePosition + present * 4,
    entries > header.entries ? tableEnd : tablePosition + entries * 4,
    0xff,
  );
  yield* wait(store.flush());
  if (entries > header.entries) {
    // Number and checksum change together: they are in one sector.
    const bytes = changedHeader(dynamic.header.bytes, { entries });
    yield* write(store, dynamic.headerPosition, bytes.subarray(0, SECTOR));
    yield* wait(store.flush());
  }
  yield* footers(layout, { size });
}

/** What the last block holds past the end of the disk becomes zeros. */
function* clearLastBlock({ store, size, end }: Layout, dynamic: DynamicLayout): Flow {
  const { blockSize } = dynamic.header;
  const within = size % blockSize;
  if (within === 0) return;
  const index = Math.floor(size / blockSize);
  const at = dynamic.tablePosition + index * 4;
  const sector = new DataView((yield* read(store, at, 4)).buffer).getUint32(0);
  if (sector === UNUSED) return;
  const ground = new Ground(dynamic);
  if (!ground.holds(sector, end)) {
    throw corrupt(store, "block allocation table", at, `entry ${index} points to where no block can be`);
  }
  const block = sector * SECTOR;
  yield* wait(store.discard(block + ground.bitmap + within, blockSize - within));
  yield* wait(store.flush());
}

/** Frees the bytes between the table and `tableEnd`. */
function* makeRoom(layout: Layout, dynamic: DynamicLayout, tableEnd: number): Flow {
  const { store } = layout;
  const { tablePosition } = dynamic;
  const oldEnd = tablePosition + dynamic.header.entries * 4;
  if ((yield* headerHome(layout, dynamic)) !== dynamic.headerPosition) yield* rewriteHeader(layout, dynamic);
  const { header, headerPosition } = dynamic;
  const inside = (start: number, length: number) => start < tableEnd && start + length > oldEnd;
  if (inside(headerPosition, HEADER_BYTES) && headerPosition >= oldEnd) {
    const context = { file: store.name, structure: "dynamic disk header", offset: headerPosition };
    const hint = "Convert the disk to a new, larger image";
    const message = "the block allocation table cannot grow: the disk's header lies behind it";
    throw new ParavaneError("UNSUPPORTED", message, context, { hint });
  }
  const ground = new Ground(dynamic);
  const blocks: { index: number; sector: number }[] = [];
  yield* eachEntry(store, tablePosition, header.entries, (sector, index) => {
    if (ground.holds(sector, layout.end) && inside(sector * SECTOR, ground.stride)) blocks.push({ index, sector });
  });
  yield* extend(layout, tableEnd);
  if (header.parent.locators.some(({ position, space }) => inside(Number(position), space))) {
    yield* rewriteHeader(layout, dynamic);
  }
  if (blocks.length === 0) return;

  const { stride, step } = ground;
  const start = ground.next(layout.end);
  yield* extend(layout, start + (blocks.length - 1) * step + stride);
  if ((layout.end - stride) / SECTOR >= UNUSED) {
    throw new ParavaneError("NO_SPACE", "the VHD has reached the last sector it can number", { file: store.name });
  }
  for (const [i, { sector }] of blocks.entries()) {
    yield* copy(store, sector * SECTOR, start + i * step, stride);
  }
  yield* wait(store.flush());
  for (const [i, { index }] of blocks.entries()) {
    yield* putEntry(layout, dynamic, index, (start + i * step) / SECTOR);
  }
  yield* wait(store.flush());
}

/** The same again, with its texts at the end of the file. */
function* rewriteHeader(layout: Layout, dynamic: DynamicLayout): Flow {
  const parent = dynamic.parent && (yield* presentParent(layout, dynamic));
  yield* writeParent(layout, dynamic, parent, []);
}
