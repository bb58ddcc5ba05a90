// The order in which the footer, which is in two places of a dynamic disk, is changed: at any moment one of them is whole and
// fits the rest of the file. A footer is one sector, which a disk writes whole.
import { type Flow, wait } from "../../../core/flow.ts";
import { changedFooter, FOOTER_BYTES, type FooterChange, parseFooter } from "./footer.ts";
import { write } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";

/** Changes both footers, durably. */
export function* footers(layout: Layout, change: FooterChange): Flow {
  const { store, dynamic } = layout;
  const bytes = changedFooter(layout.footer, change);
  layout.footer = parseFooter(bytes)!;
  if (dynamic) {
    yield* write(store, 0, bytes);
    yield* wait(store.flush());
  }
  yield* write(store, layout.end, bytes);
  yield* wait(store.flush());
}

/** Makes room for data up to `end`: the footer goes there, and where it was is free. */
export function* extend(layout: Layout, end: number): Flow {
  const { store } = layout;
  if (end <= layout.end) return;
  yield* write(store, end, changedFooter(layout.footer, {}));
  yield* wait(store.flush());
  layout.end = end;
}

/** The reverse: nothing from `end` on is in use. */
export function* cut(layout: Layout, end: number): Flow {
  const { store } = layout;
  if (end >= layout.end) return;
  yield* write(store, end, changedFooter(layout.footer, {}));
  yield* wait(store.flush());
  yield* wait(store.resize(end + FOOTER_BYTES));
  yield* wait(store.flush());
  layout.end = end;
}

/** Another place for a block. */
export function* putEntry({ store }: Layout, { tablePosition }: DynamicLayout, index: number, sector: number): Flow {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, sector);
  yield* write(store, tablePosition + index * 4, bytes);
}
