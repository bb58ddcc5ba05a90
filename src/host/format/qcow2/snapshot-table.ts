// Internal snapshots as they are kept ("Snapshots"): a table of entries of varying length.
import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { type Header, MAX_L1_BYTES } from "./header.ts";
import { corrupt, getWide, read, setWide, viewOf } from "./io.ts";

export interface Snapshot {
  id: string;
  name: string;
  /** Milliseconds since 1970. */
  date: number;
  /** Nanoseconds that the guest had run. */
  clock: bigint;
  /** Instructions that it had executed; absent when not counted. */
  instructions?: bigint;
  /** Bytes of saved machine state. */
  stateSize: number;
  /** Guest-visible bytes then; absent in old version 2 images, where it is the disk's. */
  diskSize?: number;
  l1Position: number;
  /** Entries. */
  l1Size: number;
  /** Bytes of its entry in the table it was read from. */
  tableBytes: number;
  /** Extra data past what is known here, kept as it is. */
  more: Uint8Array;
}

const FIXED = 40;
/** Bytes of extra data that are understood: state size and disk size. */
const KNOWN = 16;
/** "icount value": all ones when the guest was not run with it. */
const UNCOUNTED = 2n ** 64n - 1n;
const MAX_TABLE = 2 ** 26;

export function* readSnapshots(store: Store, header: Header): Flow<Snapshot[]> {
  const list: Snapshot[] = [];
  let at = header.snapshotPosition;
  for (let i = 0; i < header.snapshotCount; i++) {
    const wrong = (what: string) => corrupt(store, "snapshot table", at, `entry ${i} ${what}`);
    if (at + FIXED > store.size || at - header.snapshotPosition > MAX_TABLE) throw wrong("lies past the end");
    const fixed = viewOf(yield* read(store, at, FIXED));
    const idLength = fixed.getUint16(12);
    const nameLength = fixed.getUint16(14);
    const extraLength = fixed.getUint32(36);
    if (extraLength > 1024) throw wrong(`has ${extraLength} bytes of extra data`);
    if (at + FIXED + extraLength + idLength + nameLength > store.size) throw wrong("is cut off");
    const rest = yield* read(store, at + FIXED, extraLength + idLength + nameLength);
    const extra = viewOf(rest);
    const text = (from: number, length: number) => new TextDecoder().decode(rest.subarray(from, from + length));
    const snapshot: Snapshot = {
      id: text(extraLength, idLength),
      name: text(extraLength + idLength, nameLength),
      date: fixed.getUint32(16) * 1000 + Math.floor(fixed.getUint32(20) / 1e6),
      clock: fixed.getBigUint64(24),
      stateSize: extraLength >= 8 ? getWide(extra, 0) : fixed.getUint32(32),
      l1Position: getWide(fixed, 0),
      l1Size: fixed.getUint32(8),
      tableBytes: Math.ceil((FIXED + rest.length) / 8) * 8,
      more: rest.slice(Math.min(KNOWN, extraLength), extraLength),
    };
    if (extraLength >= 16) snapshot.diskSize = getWide(extra, 8);
    if (extraLength >= 24 && extra.getBigUint64(16) !== UNCOUNTED) snapshot.instructions = extra.getBigUint64(16);
    const cluster = 2 ** header.clusterBits;
    const { l1Position, l1Size } = snapshot;
    const end = Math.ceil(store.size / cluster) * cluster;
    if (
      l1Size * 8 > MAX_L1_BYTES ||
      (l1Size > 0 && (l1Position % cluster || l1Position < cluster || l1Position + l1Size * 8 > end))
    ) {
      throw wrong(`puts its L1 table of ${l1Size} entries at ${l1Position}`);
    }
    if (snapshot.diskSize !== undefined && !Number.isSafeInteger(snapshot.diskSize))
      throw wrong("has an absurd disk size");
    list.push(snapshot);
    at += snapshot.tableBytes;
  }
  return list;
}

/** By id, else by name, as QEMU looks them up. @throws NOT_FOUND */
export function findSnapshot(store: Store, snapshots: readonly Snapshot[], wanted: string): Snapshot {
  const found = snapshots.find(({ id }) => id === wanted) ?? snapshots.find(({ name }) => name === wanted);
  if (found) return found;
  const known = snapshots.map(({ id, name }) => `${id} (${name})`).join(", ") || "none";
  throw new ParavaneError(
    "NOT_FOUND",
    `there is no snapshot "${wanted}"`,
    { file: store.name },
    { hint: `There are: ${known}` },
  );
}

/** The table's bytes. @param size of the disk, for snapshots that do not say theirs */
export function buildSnapshots(list: readonly Snapshot[], size: number): Uint8Array {
  const parts = list.map((snapshot) => {
    const id = new TextEncoder().encode(snapshot.id);
    const name = new TextEncoder().encode(snapshot.name);
    const extra = KNOWN + snapshot.more.length;
    const bytes = new Uint8Array(Math.ceil((FIXED + extra + id.length + name.length) / 8) * 8);
    const view = viewOf(bytes);
    setWide(view, 0, snapshot.l1Position);
    view.setUint32(8, snapshot.l1Size);
    view.setUint16(12, id.length);
    view.setUint16(14, name.length);
    view.setUint32(16, Math.floor(snapshot.date / 1000));
    view.setUint32(20, (snapshot.date % 1000) * 1e6);
    view.setBigUint64(24, snapshot.clock);
    view.setUint32(32, Math.min(snapshot.stateSize, 0xffffffff));
    view.setUint32(36, extra);
    setWide(view, FIXED, snapshot.stateSize);
    setWide(view, FIXED + 8, snapshot.diskSize ?? size);
    bytes.set(snapshot.more, FIXED + KNOWN);
    bytes.set(id, FIXED + extra);
    bytes.set(name, FIXED + extra + id.length);
    return bytes;
  });
  const table = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    table.set(part, at);
    at += part.length;
  }
  return table;
}
