// What QED and qcow1 have in common: a table of tables of clusters, with 64-bit entries.
import { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt } from "../io.ts";
import { LookupImage } from "./image.ts";
import type { Found } from "./mapper.ts";

/** Positions and sizes are bytes. */
export interface TreeLayout {
  store: Store;
  /** Guest-visible. */
  size: number;
  clusterBytes: number;
  /** Before this, there is the header and nothing else. */
  start: number;
  l1: { position: number; entries: number };
  /** Entries of an L2 table. */
  l2Entries: number;
  littleEndian: boolean;
  hasParent: boolean;
  /** What an entry of an L2 table says, which is not 0. Where that is possible is not its business. */
  read(entry: bigint): { kind: ExtentKind; position: number; packed?: number; method?: number };
}

export const L1 = "L1 table";
export const L2 = "L2 table";

/** Why no table or cluster can be there; null when one can. */
export function misplaced(
  { store, clusterBytes, start }: TreeLayout,
  position: number,
  length: number,
  aligned = true,
): string | null {
  if (aligned && position % clusterBytes !== 0) return `points at byte ${position}, where no cluster begins`;
  if (position < start || position + length > store.size) return `points at byte ${position}, where nothing can be`;
  return null;
}

export abstract class TreeImage extends LookupImage {
  protected readonly layout: TreeLayout;

  constructor(layout: TreeLayout) {
    super(layout.store, layout.size);
    this.layout = layout;
  }

  find(offset: number): Found {
    const { layout, store, size } = this;
    const { clusterBytes, l2Entries, l1 } = layout;
    const hole = ExtentKind.Backing;
    const cluster = Math.floor(offset / clusterBytes);
    const index = Math.floor(cluster / l2Entries);
    const l1At = l1.position + index * 8;
    const table = Number(this.#entry(l1At));
    if (table === 0) return { kind: hole, length: (index + 1) * l2Entries * clusterBytes - offset };
    const wrong = misplaced(layout, table, l2Entries * 8);
    if (wrong) throw corrupt(store, L1, l1At, `says in entry ${index} what ${wrong}`);
    const slot = cluster % l2Entries;
    const at = table + slot * 8;
    const entry = this.#entry(at);
    const start = cluster * clusterBytes;
    const within = offset - start;
    const length = clusterBytes - within;
    if (entry === 0n) return { kind: hole, length };
    const { kind, position, packed, method } = layout.read(entry);
    if (kind === ExtentKind.Zero) return { kind, length };
    // Of the last cluster only what the guest sees need be there.
    const seen = Math.min(clusterBytes, size - start);
    const bad = misplaced(layout, position, packed ?? seen, packed === undefined);
    if (bad) throw corrupt(store, L2, at, `says in entry ${slot} what ${bad}`);
    if (kind === ExtentKind.Data) return { kind, length, position: position + within };
    const unit = { start, size: clusterBytes, position, packed: packed ?? seen };
    return { kind, length, unit: { ...unit, ...(method !== undefined && { method }) } };
  }

  #entry(position: number): bigint {
    const { view, at } = this.pages.at(position);
    return view.getBigUint64(at, this.layout.littleEndian);
  }
}
