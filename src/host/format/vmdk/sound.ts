import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { copy, write } from "../io.ts";
import { poorer } from "./copies.ts";
import { REACH, SECTOR } from "./header.ts";
import { littleEndian, tableBytes, type VmdkLayout } from "./layout.ts";
import { metadataRanges, survey, type Usage } from "./scan.ts";

/** What is to be gone by: of each table the first copy, or the second where the first is damaged and the second is not. */
export interface Sound {
  /** Sectors. */
  tables: Uint32Array;
  usage: Usage;
  /** Numbers of the tables whose second copy is used, though the first is where a table can be. */
  damaged: readonly number[];
  /** Where those are, something else is. */
  lost: boolean;
  /** Entries that cannot be, all the same: bytes of the file. The first of them. */
  wrong: { at: number; what: string }[];
  wrongs: number;
}

const MAX_NOTED = 100;

/** @param different tables whose copy says something else */
export function* soundTables(layout: VmdkLayout, different: readonly number[]): Flow<Sound> {
  const { directory, redundant } = layout;
  const first = yield* look(layout, directory.tables, metadataRanges(layout));
  if (!redundant || different.length === 0) return first;
  const candidates = different.filter((index) => redundant.tables[index] > 0);
  // While a disk is written its copies come first; closed, they say the same.
  const emptied = layout.header.unclean ? [] : yield* poorer(layout, candidates);
  const guilty = candidates.filter((index) => first.bad.has(index) || emptied.includes(index));
  for (const damaged of first.wrongs === 0 ? [emptied] : [guilty, candidates]) {
    if (damaged.length === 0) continue;
    const tables = directory.tables.slice();
    for (const index of damaged) tables[index] = redundant.tables[index];
    for (const lost of [false, true]) {
      const ranges = metadataRanges(lost ? { ...layout, directory: { ...directory, tables } } : layout);
      const found = yield* look(layout, tables, ranges);
      if (found.wrongs === 0) return { ...found, damaged, lost };
    }
  }
  return first;
}

function* look(layout: VmdkLayout, tables: Uint32Array, ranges: ReturnType<typeof metadataRanges>) {
  const bad = new Set<number>();
  const wrong: Sound["wrong"] = [];
  let wrongs = 0;
  const note = (at: number, what: string, index: number) => {
    bad.add(index);
    if (wrongs++ < MAX_NOTED) wrong.push({ at, what });
  };
  const usage = yield* survey(layout, note, tables, ranges);
  return { tables, usage, damaged: [] as number[], lost: false, wrong, wrongs, bad };
}

/**
 * Writes the copies that are damaged anew, from the others: in place, or behind the end where there is no place.
 * @throws ParavaneError NO_SPACE
 */
export function* restoreTables(layout: VmdkLayout, { tables, usage, damaged, lost }: Sound): Flow {
  const { store, directory, redundant, misplaced } = layout;
  const bytes = tableBytes(layout);
  const entries: [position: number, sector: number][] = [];
  let at = usage.end;
  const anew = function* (of: { position: number }, index: number) {
    if ((at + bytes) / SECTOR > REACH) {
      throw new ParavaneError("NO_SPACE", "no entry can name a new grain table: the file is too long", {
        file: store.name,
      });
    }
    yield* copy(store, tables[index] * SECTOR, at, bytes);
    entries.push([of.position + index * 4, at / SECTOR]);
    at += bytes;
  };
  for (const index of misplaced.first) yield* anew(directory, index);
  for (const index of misplaced.second) yield* anew(redundant!, index);
  for (const index of damaged) {
    if (lost) yield* anew(directory, index);
    else yield* copy(store, tables[index] * SECTOR, directory.tables[index] * SECTOR, bytes);
  }
  yield* wait(store.flush());
  for (const [position, sector] of entries) yield* write(store, position, littleEndian(Uint32Array.of(sector)));
  yield* wait(store.flush());
}
