import { type Flow, wait } from "../../../core/flow.ts";
import { alignUp, clear, fill, invalid, read, write } from "../io.ts";
import { COWD_MOST, changedHeader } from "./cowd.ts";
import { checkedSize, descriptorBytes } from "./create.ts";
import { changedDescriptor } from "./descriptor.ts";
import { type HeaderChange, SECTOR } from "./header.ts";
import { grainsOf, tableBytes, type VmdkLayout } from "./layout.ts";

/**
 * Changes the size, durably. A directory that gets longer is written anew behind the last grain, at `end`, with the tables
 * that are missing; the header, one sector, then names it.
 * @throws ParavaneError INVALID
 */
export function* resizeVmdk(layout: VmdkLayout, wanted: number, end: number): Flow {
  const { store, grain, entries, directory, redundant, header } = layout;
  const size = checkedSize(wanted);
  if (wanted % SECTOR !== 0) throw invalid(`a VMDK cannot be ${wanted} bytes`, "Give whole sectors of 512 bytes");
  const capacity = size / SECTOR;
  const tables = Math.ceil(size / (grain * entries));
  if (header.cowd && capacity > COWD_MOST) {
    throw invalid(`a vmfsSparse extent cannot be ${wanted} bytes`, `Give up to ${COWD_MOST * SECTOR}`);
  }
  if (size < layout.size) {
    yield* publish(layout, changedHeader(header, { capacity, tables }), capacity);
    return yield* forget({ ...layout, size }, tables);
  }
  // What an interrupted shrinking has left must not come back.
  yield* clearLastGrain(layout);
  yield* forget(layout, directory.tables.length);
  const more = tables - directory.tables.length;
  const change: HeaderChange = { capacity };
  if (more > 0) {
    // ESX Server's tables are made when they are first used.
    const bytes = header.cowd ? 0 : tableBytes(layout);
    let at = end;
    const copies = [directory, ...(redundant ? [redundant] : [])];
    const length = alignUp(tables * 4, SECTOR) + more * bytes;
    if ((end + copies.length * length) / SECTOR > 2 ** 32) throw invalid(`a VMDK cannot grow to ${size} bytes`);
    yield* clear(store, end, alignUp(end + copies.length * length, grain));
    for (const copy of copies) {
      const view = new DataView(new ArrayBuffer(tables * 4));
      const first = at + alignUp(tables * 4, SECTOR);
      for (let i = 0; i < tables; i++) {
        const old = copy.tables[i];
        const anew = header.cowd ? 0 : (first + (i - copy.tables.length) * bytes) / SECTOR;
        view.setUint32(i * 4, old ?? anew, true);
      }
      yield* write(store, at, new Uint8Array(view.buffer));
      if (copy === directory) Object.assign(change, { directoryOffset: at / SECTOR, tables });
      else change.redundantOffset = at / SECTOR;
      at = first + more * bytes;
    }
  }
  yield* wait(store.flush());
  yield* publish(layout, changedHeader(header, change), capacity);
}

function* publish(layout: VmdkLayout, header: Uint8Array, sectors: number): Flow {
  const { store, descriptor, descriptorAt } = layout;
  yield* write(store, 0, header);
  yield* wait(store.flush());
  if (!descriptor) return;
  const text = changedDescriptor(descriptor.text, { sectors });
  yield* write(store, descriptorAt.position, descriptorBytes(text, descriptorAt.length));
  yield* wait(store.flush());
}

/** Entries of grains past the end become empty, in both copies of the first `tables` tables and of those behind. */
function* forget(layout: VmdkLayout, tables: number): Flow {
  const { entries, directory, redundant, store } = layout;
  const grains = grainsOf(layout);
  for (const copy of [redundant, directory]) {
    for (let i = Math.floor(grains / entries); copy && i < copy.tables.length; i++) {
      const at = copy.tables[i] * SECTOR;
      const first = Math.max(0, grains - i * entries) * 4;
      if (at > 0 && (i >= tables || first < tableBytes(layout)))
        yield* fill(store, at + first, at + tableBytes(layout), 0);
    }
  }
  yield* wait(store.flush());
}

/** What of the last grain is past the end becomes zeros. */
function* clearLastGrain(layout: VmdkLayout): Flow {
  const { size, grain, entries, directory, store } = layout;
  const inside = size % grain;
  const last = grainsOf(layout) - 1;
  const table = last < 0 ? 0 : directory.tables[Math.floor(last / entries)];
  if (inside === 0 || table === 0) return;
  const entry = yield* read(store, table * SECTOR + (last % entries) * 4, 4);
  const sector = new DataView(entry.buffer).getUint32(0, true);
  if (sector <= 1) return;
  yield* fill(store, sector * SECTOR + inside, sector * SECTOR + grain, 0);
}
