import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, Measure } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import {
  buildFooter,
  DiskType,
  EXACT,
  FOOTER_BYTES,
  MAX_SIZE,
  NO_OFFSET,
  ROUNDED,
  roundedToGeometry,
  SECTOR,
} from "./footer.ts";
import { buildHeader, DEFAULT_BLOCK, HEADER_BYTES } from "./header.ts";
import { align, fill, write } from "./io.ts";
import { locate, placed } from "./parent.ts";
import { Spacing } from "./table.ts";

interface VhdCreateOptions extends CreateOptions {
  /** "dynamic" (grows as it is written) or "fixed". */
  subformat?: "dynamic" | "fixed";
  /** Bytes that a dynamic disk grows by: a power of two from 4 KiB to 256 MiB. 2 MiB is what every product reads. */
  blockSize?: number;
  /**
   * true, the default: the size to the byte. false: the next one that a geometry says, for readers that know no other, as
   * qemu-img makes them unless told otherwise.
   */
  forceSize?: boolean;
  /** 16 bytes; random when absent. */
  uuid?: Uint8Array;
  /** Seconds since 1970; now when absent. */
  time?: number;
}

export function* createVhd(store: Store, options: CreateOptions): Flow {
  const { size, subformat, blockSize, uuid, time, parent, creator } = checked(options);
  if (subformat === "fixed") {
    yield* wait(store.resize(size));
    yield* write(store, size, buildFooter({ size, dataOffset: NO_OFFSET, type: DiskType.Fixed, uuid, time, creator }));
    return;
  }
  const dataOffset = BigInt(FOOTER_BYTES);
  const type = parent ? DiskType.Differencing : DiskType.Dynamic;
  const footer = buildFooter({ size, dataOffset, type, uuid, time, creator });
  const entries = Math.ceil(size / blockSize);
  const table = FOOTER_BYTES + HEADER_BYTES;
  const tableEnd = align(table + entries * 4);
  yield* fill(store, table, tableEnd, 0xff);
  const located = parent && placed(parent, tableEnd);
  for (const { position, text } of located?.locators ?? []) yield* write(store, Number(position), text);
  yield* write(store, FOOTER_BYTES, buildHeader(table, entries, blockSize, located));
  yield* write(store, located?.end ?? tableEnd, footer);
  // The copy at 0 last: until then nothing takes the file for a VHD.
  yield* write(store, 0, footer);
}

/** What a new VHD's file takes. @throws ParavaneError INVALID */
export function measureVhd(options: CreateOptions): Measure {
  const { size, subformat, blockSize, parent } = checked(options);
  if (subformat === "fixed") return { unit: SECTOR, bytes: () => size + FOOTER_BYTES };
  const tableEnd = align(FOOTER_BYTES + HEADER_BYTES + Math.ceil(size / blockSize) * 4);
  const end = parent ? placed(parent, tableEnd).end : tableEnd;
  const spacing = new Spacing(blockSize);
  const filled = (blocks: number) => spacing.next(end) + (blocks - 1) * spacing.step + spacing.stride;
  return { unit: blockSize, bytes: (units) => (units > 0 ? filled(units) : end) + FOOTER_BYTES };
}

/** @throws ParavaneError INVALID */
function checked(options: CreateOptions) {
  const { size: wanted, subformat = "dynamic", blockSize = DEFAULT_BLOCK, ...more } = options as VhdCreateOptions;
  const { uuid = crypto.getRandomValues(new Uint8Array(16)), time = Date.now() / 1000, ...others } = more;
  const { forceSize = true, parent, ...rest } = others;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) {
    throw invalid(`VHDs have no option "${unknown}"`, "Known: subformat, blockSize, forceSize, uuid, time, parent");
  }
  if (!Number.isSafeInteger(wanted) || wanted <= 0 || wanted > MAX_SIZE) {
    throw invalid(`a VHD cannot be ${wanted} bytes`, `Give 1 to ${MAX_SIZE}`);
  }
  if (!Number.isSafeInteger(blockSize) || blockSize < 4096 || blockSize > 2 ** 28 || blockSize & (blockSize - 1)) {
    throw invalid(`a VHD block cannot be ${blockSize} bytes`, "Give a power of two from 4096 to 268435456");
  }
  if (uuid.length !== 16) throw invalid(`a UUID has 16 bytes, not ${uuid.length}`);
  if (subformat !== "dynamic" && subformat !== "fixed") {
    throw invalid(`there is no VHD subformat "${subformat}"`, "Known: dynamic, fixed");
  }
  if (parent && subformat === "fixed") throw invalid("a fixed VHD has no parent", "Leave one of them out");
  const size = forceSize ? align(wanted) : roundedToGeometry(align(wanted));
  const creator = forceSize ? EXACT : ROUNDED;
  return { size, subformat, blockSize, uuid, time, parent: parent && locate(parent), creator };
}

function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
