import { type Flow, wait } from "../../../core/flow.ts";
import { alignUp, copy, write } from "../io.ts";
import { freePieces } from "./compact.ts";
import { changedHeader } from "./cowd.ts";
import { type HeaderChange, REACH, SECTOR } from "./header.ts";
import { littleEndian, tableBytes, type VmdkLayout } from "./layout.ts";
import { metadataRanges, survey } from "./scan.ts";

/**
 * Moves directories and tables into the gap before them, which growing leaves when what was shrunk away lies under them. Where
 * the gap is too small for all of them they go behind the end first: nothing is written over what is still named.
 * @param reading the layout, as it is on disk now
 */
export function* lowerMetadata(reading: () => Flow<VmdkLayout>): Flow {
  for (let pass = 0; pass < 2; pass++) {
    const layout = yield* reading();
    const usage = yield* survey(layout, () => {});
    const gap = freePieces(layout, usage).next();
    if (gap.done) return;
    const from = gap.value * layout.grain;
    const loose = looseFrom(layout, from);
    if (loose.bytes === 0) return;
    const next = metadataRanges(layout).find(({ end }) => end > from)!;
    const fits = next.start - from >= loose.bytes;
    const to = fits ? from : usage.end;
    if ((to + loose.bytes) / SECTOR > REACH) return;
    yield* moveTo(layout, loose, to);
    if (fits) return;
  }
}

interface Copy {
  position: number;
  tables: Uint32Array;
}
interface Loose {
  directories: Copy[];
  tables: { of: Copy; index: number }[];
  /** Of all of them, each in whole sectors. */
  bytes: number;
}

function looseFrom(layout: VmdkLayout, from: number): Loose {
  const { directory, redundant } = layout;
  const copies = redundant ? [redundant, directory] : [directory];
  const directories = copies.filter(({ position }) => position >= from);
  const tables = copies.flatMap((of) =>
    Array.from(of.tables.keys())
      .filter((index) => of.tables[index] * SECTOR >= from)
      .map((index) => ({ of, index })),
  );
  const bytes = directories.reduce((sum, each) => sum + directoryBytes(each), tables.length * tableBytes(layout));
  return { directories, tables, bytes };
}

const directoryBytes = ({ tables }: Copy): number => alignUp(tables.length * 4, SECTOR);

/** New tables are durable before directories name them, and new directories before the header does. */
function* moveTo(layout: VmdkLayout, loose: Loose, to: number): Flow {
  const { store, header, directory } = layout;
  let at = to;
  const moved = new Map<Copy, Uint32Array>();
  for (const { of, index } of loose.tables) {
    yield* copy(store, of.tables[index] * SECTOR, at, tableBytes(layout));
    if (!moved.has(of)) moved.set(of, of.tables.slice());
    moved.get(of)![index] = at / SECTOR;
    at += tableBytes(layout);
  }
  const change: HeaderChange = {};
  for (const each of loose.directories) {
    yield* write(store, at, littleEndian(moved.get(each) ?? each.tables));
    if (each === directory) Object.assign(change, { directoryOffset: at / SECTOR, tables: directory.tables.length });
    else change.redundantOffset = at / SECTOR;
    at += directoryBytes(each);
  }
  yield* wait(store.flush());
  for (const { of, index } of loose.tables) {
    if (loose.directories.includes(of)) continue;
    yield* write(store, of.position + index * 4, littleEndian(moved.get(of)!.subarray(index, index + 1)));
  }
  yield* write(store, 0, changedHeader(header, change));
  yield* wait(store.flush());
}
