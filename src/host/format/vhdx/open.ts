import type { Flow } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { BatLayout, ENTRY_BYTES } from "./bat.ts";
import { Headers, readCreator } from "./header.ts";
import { VhdxImage } from "./image.ts";
import { corrupt } from "./io.ts";
import { Journal } from "./journal.ts";
import { readMetadata } from "./metadata.ts";
import { readRegions } from "./regions.ts";

export function* openVhdx(store: Store, options: OpenOptions): Flow<VhdxImage> {
  const warn = (message: string) => options.onWarning?.(`${store.name}: ${message}`);
  const creator = yield* readCreator(store);
  const headers = yield* Headers.open(store, warn);
  const journal = new Journal(store, headers);
  yield* journal.replay(options.readOnly ?? store.readOnly);
  if (journal.replayed > 0) warn("the disk was not closed properly; its log was replayed");

  const reader = (position: number, length: number) => journal.read(position, length);
  const regions = yield* readRegions(store, reader, journal.log, journal.end, warn);
  const metadata = yield* readMetadata(store, reader, regions.metadata);
  const { entries } = new BatLayout(metadata);
  const { position, length } = regions.bat;
  if (entries * ENTRY_BYTES > length) {
    throw corrupt(store, "block allocation table", position, `has ${length / ENTRY_BYTES} entries, not ${entries}`);
  }
  return new VhdxImage({ store, creator, headers, journal, regions, metadata });
}
