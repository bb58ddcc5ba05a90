// Region table (MS-VHDX 2.2.3): where the BAT and the metadata are. Two copies, 64 KiB each.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { guidAt, putGuid } from "../guid.ts";
import { intact, seal, viewOf } from "./crc32c.ts";
import { corrupt, MiB, putWide, unsupported, wide } from "./io.ts";

const SIGNATURE = "regi";
export const REGION_TABLE_BYTES = 65536;
export const REGION_TABLES = [192 * 1024, 256 * 1024];
/** Bytes of the table's header, and of each entry. */
const ENTRY = { first: 16, bytes: 32 } as const;
const MAX_ENTRIES = 2047;

const BAT = "2dc27766-f623-4200-9d64-115e9bfd4a08";
const METADATA = "8b7ca206-4790-4b9a-b8fe-575f050f886e";

/** A part of the file that is not payload. */
export interface Region {
  name: string;
  position: number;
  length: number;
}

export interface Regions {
  bat: Region;
  metadata: Region;
  /** Those two, the log, and what else the table lists. */
  all: Region[];
  /** Which copy of the table is sound. */
  table: number;
}

/** Reads bytes of the file as the log, if any, has left them. */
export type Reader = (position: number, length: number) => Flow<Uint8Array>;

/**
 * @param end bytes of the file, as the log leaves it
 * @throws ParavaneError CORRUPT, UNSUPPORTED
 */
export function* readRegions(
  store: Store,
  reader: Reader,
  log: Region,
  end: number,
  onWarning: (message: string) => void,
): Flow<Regions> {
  let at = REGION_TABLES[0];
  let bytes = yield* reader(at, REGION_TABLE_BYTES);
  if (!intact(bytes, SIGNATURE)) {
    at = REGION_TABLES[1];
    bytes = yield* reader(at, REGION_TABLE_BYTES);
    if (!intact(bytes, SIGNATURE))
      throw corrupt(store, "region table", REGION_TABLES[0], "is damaged, and so is its copy");
    onWarning("the region table is damaged; its copy is used");
  }
  const view = viewOf(bytes);
  const count = view.getUint32(8, true);
  if (count > MAX_ENTRIES) throw corrupt(store, "region table", at, `has ${count} entries, more than ${MAX_ENTRIES}`);

  const all = [log];
  const found = new Map<string, Region>();
  for (let i = 0; i < count; i++) {
    const entry = at + ENTRY.first + i * ENTRY.bytes;
    const from = entry - at;
    const guid = guidAt(bytes, from);
    const name = guid === BAT ? "block allocation table" : guid === METADATA ? "metadata region" : `region ${guid}`;
    const region = { name, position: wide(view, from + 16), length: view.getUint32(from + 24, true) };
    const { position, length } = region;
    if (guid !== BAT && guid !== METADATA && view.getUint32(from + 28, true) & 1) {
      throw unsupported(store, "region table", entry, `requires ${name}, which is not known`);
    }
    if (position % MiB || length % MiB || position < MiB || length === 0 || position + length > end) {
      throw corrupt(
        store,
        "region table",
        entry,
        `puts the ${name} at ${position}, ${length} bytes, where it cannot be`,
      );
    }
    if (found.has(guid)) throw corrupt(store, "region table", entry, `lists the ${name} twice`);
    found.set(guid, region);
    all.push(region);
  }
  all.sort((a, b) => a.position - b.position);
  for (let i = 1; i < all.length; i++) {
    if (all[i - 1].position + all[i - 1].length <= all[i].position) continue;
    throw corrupt(store, "region table", at, `puts the ${all[i].name} over the ${all[i - 1].name}`);
  }
  const [bat, metadata] = [BAT, METADATA].map((guid) => {
    const region = found.get(guid);
    if (region) return region;
    throw corrupt(store, "region table", at, `lists no ${guid === BAT ? "block allocation table" : "metadata region"}`);
  });
  return { bat, metadata, all, table: at };
}

export function buildRegionTable(bat: Region, metadata: Region): Uint8Array {
  const bytes = new Uint8Array(REGION_TABLE_BYTES);
  const view = viewOf(bytes);
  view.setUint32(8, 2, true);
  const entries: [string, Region][] = [
    [BAT, bat],
    [METADATA, metadata],
  ];
  entries.forEach(([guid, { position, length }], i) => {
    const at = ENTRY.first + i * ENTRY.bytes;
    putGuid(bytes, at, guid);
    putWide(view, at + 16, position);
    view.setUint32(at + 24, length, true);
    view.setUint32(at + 28, 1, true); // required
  });
  return seal(bytes, SIGNATURE);
}

/** The table with the BAT elsewhere; other regions stay where they are. */
export function movedBat(table: Uint8Array, { position, length }: Region): Uint8Array {
  const bytes = table.slice();
  const view = viewOf(bytes);
  for (let i = 0; i < view.getUint32(8, true); i++) {
    const at = ENTRY.first + i * ENTRY.bytes;
    if (guidAt(bytes, at) !== BAT) continue;
    putWide(view, at + 16, position);
    view.setUint32(at + 24, length, true);
  }
  return seal(bytes, SIGNATURE);
}
