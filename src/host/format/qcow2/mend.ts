// Structures that point nowhere, or at each other, made sound again in place: what a recount of the references needs first.
// What was lost stays lost, and reads as zeros from then on; what two owners share becomes two copies. Each step is durable
// before the next and may be repeated, so a repair that was interrupted is simply made again.
import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { packedPlace } from "./compressed.ts";
import { Autoclear, Field, Incompatible } from "./header.ts";
import { offsetOf, read, setWide, viewOf, write } from "./io.ts";
import { bitmapTables, snapshotBytes } from "./references.ts";
import { ALONE, OFFSET, PACKED, ZERO } from "./tables.ts";
import type { Volume } from "./volume.ts";

/** Makes L1 and L2 entries and bitmaps sound. The volume is out of date afterwards; counts and flags are still as they were. */
export function* mend(volume: Volume): Flow {
  yield* new Mender(volume).run();
  yield* wait(volume.store.flush());
}

class Mender {
  readonly #volume: Volume;
  readonly #store: Store;
  readonly #cluster: number;
  /** First byte past the clusters that were there at first. */
  readonly #end: number;
  /** Clusters that belong to one owner, whoever else refers to them. */
  readonly #owned = new Set<number>();
  readonly #tables = new Set<number>();

  constructor(volume: Volume) {
    this.#volume = volume;
    this.#store = volume.store;
    this.#cluster = volume.clusterBytes;
    this.#end = Math.ceil(volume.store.size / this.#cluster) * this.#cluster;
  }

  *run(): Flow {
    const { header, l1, snapshots } = this.#volume;
    this.#own(0, 1);
    this.#own(l1.position, l1.size * 8);
    if (header.encryption) this.#own(header.encryption.position, header.encryption.bytes);
    if (snapshots.length > 0) this.#own(header.snapshotPosition, snapshotBytes(snapshots));
    for (const { l1Position, l1Size } of snapshots) this.#own(l1Position, l1Size * 8);
    for (const { position, size } of this.#trees()) yield* this.#mendL1(position, size);
    yield* this.#mendBitmaps();
    for (const table of this.#tables) yield* this.#mendL2(table * this.#cluster);
  }

  *#trees(): Generator<{ position: number; size: number }> {
    const { l1, snapshots } = this.#volume;
    yield l1;
    for (const { l1Position, l1Size } of snapshots) yield { position: l1Position, size: l1Size };
  }

  #own(position: number, bytes: number): void {
    const first = Math.floor(position / this.#cluster);
    for (let i = first; i < Math.ceil((position + bytes) / this.#cluster); i++) this.#owned.add(i);
  }

  #inside(position: number): boolean {
    return position % this.#cluster === 0 && position >= this.#cluster && position + this.#cluster <= this.#end;
  }

  /** Entries that point nowhere, or at other metadata, are given up; of two to one table, the second gets a copy. */
  *#mendL1(position: number, size: number): Flow {
    const bytes = yield* read(this.#store, position, size * 8);
    const view = viewOf(bytes);
    const seen = new Set<number>();
    let changed = false;
    for (let at = 0; at < bytes.length; at += 8) {
      const table = offsetOf(view.getUint32(at), view.getUint32(at + 4));
      if (table === 0) continue;
      const number = table / this.#cluster;
      if (!this.#inside(table) || this.#owned.has(number)) {
        view.setBigUint64(at, 0n);
        changed = true;
      } else if (seen.has(number)) {
        const copy = yield* this.#copyOf(table);
        setWide(view, at, copy);
        this.#tables.add(copy / this.#cluster);
        changed = true;
      } else {
        seen.add(number);
        this.#tables.add(number);
      }
    }
    if (!changed) return;
    yield* wait(this.#store.flush());
    yield* write(this.#store, position, bytes);
    yield* wait(this.#store.flush());
  }

  *#mendL2(table: number): Flow {
    const { extended } = this.#volume;
    const bytes = yield* read(this.#store, table, this.#cluster);
    const view = viewOf(bytes);
    let changed = false;
    for (let at = 0; at < this.#cluster; at += extended ? 16 : 8) {
      const entry = view.getBigUint64(at);
      const bits = extended ? view.getBigUint64(at + 8) : 0n;
      if (entry === 0n && bits === 0n) continue;
      const now = yield* this.#mendEntry(entry, bits);
      if (now.entry === entry && now.bits === bits) continue;
      view.setBigUint64(at, now.entry);
      if (extended) view.setBigUint64(at + 8, now.bits);
      changed = true;
    }
    if (!changed) return;
    yield* wait(this.#store.flush());
    yield* write(this.#store, table, bytes);
    yield* wait(this.#store.flush());
  }

  *#mendEntry(old: bigint, oldBits: bigint): Flow<{ entry: bigint; bits: bigint }> {
    const { header, extended } = this.#volume;
    const external = (header.incompatible & Incompatible.DataFile) !== 0n;
    const lost = extended
      ? { entry: 0n, bits: 0xffffffffn << 32n }
      : { entry: header.version < 3 ? 0n : ZERO, bits: oldBits };
    if (old & PACKED) {
      const { position, length } = packedPlace(old, header.clusterBits);
      if (external || position < this.#cluster || position >= this.#end) return lost;
      const first = Math.floor(position / this.#cluster);
      // What lies in metadata was never packed.
      for (let i = first; i * this.#cluster < position + length; i++) {
        if (this.#owned.has(i) || this.#tables.has(i)) return lost;
      }
      return { entry: old & ~ALONE, bits: oldBits };
    }
    let entry = old;
    let bits = oldBits;
    if (extended || header.version < 3) entry &= ~ZERO;
    const host = Number(entry & OFFSET);
    if (extended) {
      // What is stored wins over zeros, where there is a cluster to store it in.
      const stored = host !== 0 || (external && (entry & ALONE) !== 0n) ? bits & 0xffffffffn : 0n;
      bits = (bits & ~stored & (0xffffffffn << 32n) & ~(stored << 32n)) | stored;
    }
    if (host === 0 || external) return { entry, bits };
    if (!this.#inside(host)) return lost;
    const number = host / this.#cluster;
    if (!this.#owned.has(number) && !this.#tables.has(number)) return { entry, bits };
    const copy = yield* this.#copyOf(host);
    return { entry: (entry & ~OFFSET) | BigInt(copy) | ALONE, bits };
  }

  /** Bitmaps are given up altogether when their directory, or a place of theirs, belongs to something else. */
  *#mendBitmaps(): Flow {
    const { header } = this.#volume;
    if (!header.bitmaps || (header.autoclear & Autoclear.Bitmaps) === 0n) return;
    let broken = false;
    const places: [number, number][] = [];
    const walk = { store: this.#store, header, problem: () => (broken = true) };
    for (const { position, bytes } of yield* bitmapTables(walk)) places.push([position, bytes]);
    for (const [position, bytes] of places) {
      const first = position / this.#cluster;
      for (let i = first; i < first + Math.ceil(bytes / this.#cluster); i++) {
        if (this.#owned.has(i) || this.#tables.has(i)) broken = true;
      }
      this.#own(position, bytes);
    }
    if (!broken) return;
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigUint64(0, header.autoclear & ~Autoclear.Bitmaps);
    yield* write(this.#store, Field.Autoclear, bytes);
    yield* wait(this.#store.flush());
  }

  /** A copy of the cluster, behind everything else. */
  *#copyOf(position: number): Flow<number> {
    const copy = Math.ceil(this.#store.size / this.#cluster) * this.#cluster;
    yield* write(this.#store, copy, yield* read(this.#store, position, this.#cluster));
    return copy;
  }
}
