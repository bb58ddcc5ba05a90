import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { CreateOptions, NewParent } from "../../../core/format.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { buildFooter, DiskType, FOOTER_BYTES, MAX_SIZE, NO_OFFSET, SECTOR } from "./footer.ts";
import { buildHeader, DEFAULT_BLOCK, HEADER_BYTES, type LocatedParent, UNUSED } from "./header.ts";
import { Platform, utf16 } from "./locator.ts";

interface VhdCreateOptions extends CreateOptions {
  /** "dynamic" (grows as it is written) or "fixed". */
  subformat?: "dynamic" | "fixed";
  /** Bytes that a dynamic disk grows by: a power of two from 4 KiB to 256 MiB. 2 MiB is what every product reads. */
  blockSize?: number;
  /** 16 bytes; random when absent. */
  uuid?: Uint8Array;
  /** Seconds since 1970; now when absent. */
  time?: number;
}

/** Bytes that each parent locator has in the file. */
const LOCATOR_SPACE = 4096;

export function* createVhd(store: Store, options: CreateOptions): Flow {
  const { size: wanted, subformat = "dynamic", blockSize = DEFAULT_BLOCK, ...more } = options as VhdCreateOptions;
  const { uuid = crypto.getRandomValues(new Uint8Array(16)), time = Date.now() / 1000, parent, ...rest } = more;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined)
    throw invalid(`VHDs have no option "${unknown}"`, "Known: subformat, blockSize, uuid, time, parent");
  if (!Number.isSafeInteger(wanted) || wanted <= 0 || wanted > MAX_SIZE) {
    throw invalid(`a VHD cannot be ${wanted} bytes`, `Give 1 to ${MAX_SIZE}`);
  }
  if (!Number.isSafeInteger(blockSize) || blockSize < 4096 || blockSize > 2 ** 28 || blockSize & (blockSize - 1)) {
    throw invalid(`a VHD block cannot be ${blockSize} bytes`, "Give a power of two from 4096 to 268435456");
  }
  if (uuid.length !== 16) throw invalid(`a UUID has 16 bytes, not ${uuid.length}`);
  const size = Math.ceil(wanted / SECTOR) * SECTOR;

  if (parent && subformat !== "dynamic") throw invalid(`a ${subformat} VHD has no parent`, "Leave one of them out");
  if (subformat === "fixed") {
    yield* wait(store.resize(size));
    yield* put(store, size, buildFooter({ size, dataOffset: NO_OFFSET, type: DiskType.Fixed, uuid, time }));
  } else if (subformat === "dynamic") {
    const dataOffset = BigInt(FOOTER_BYTES);
    const type = parent ? DiskType.Differencing : DiskType.Dynamic;
    const footer = buildFooter({ size, dataOffset, type, uuid, time });
    const entries = Math.ceil(size / blockSize);
    const tablePosition = FOOTER_BYTES + HEADER_BYTES;
    const table = new Uint8Array(Math.ceil((entries * 4) / SECTOR) * SECTOR).fill(UNUSED & 0xff);
    yield* put(store, tablePosition, table);
    let end = tablePosition + table.length;
    const made = parent && headerParent(parent, end);
    for (const { position, text } of made?.locators ?? []) {
      const bytes = new Uint8Array(LOCATOR_SPACE);
      bytes.set(text);
      yield* put(store, Number(position), bytes);
      end += LOCATOR_SPACE;
    }
    yield* put(store, FOOTER_BYTES, buildHeader(tablePosition, entries, blockSize, made));
    yield* put(store, end, footer);
    // The copy at 0 last: until then nothing takes the file for a VHD.
    yield* put(store, 0, footer);
  } else throw invalid(`there is no VHD subformat "${subformat}"`, "Known: dynamic, fixed");
}

/** The locators' texts lie from `start` on. */
function headerParent({ path, absolutePath, identity: uuid = "" }: NewParent, start: number) {
  const [relativePath, absolute] = isAbsolute(path) ? [undefined, path] : [path, absolutePath];
  if (!/^[0-9a-f]{32}$/.test(uuid)) throw invalid(`"${uuid}" is no UUID of a VHD`, "Give 32 lower-case hex digits");
  const places: [number, string | undefined][] = [
    [Platform.W2ku, absolute && windows(absolute)],
    [Platform.W2ru, relativePath && windows(relativePath)],
  ];
  const locators: (LocatedParent["locators"][number] & { text: Uint8Array })[] = [];
  for (const [platform, path] of places) {
    if (path === undefined) continue;
    const text = utf16(path, true);
    if (text.length === 0 || text.length > LOCATOR_SPACE) throw invalid("a parent's path has 1 to 2048 characters");
    const position = BigInt(start + locators.length * LOCATOR_SPACE);
    locators.push({ platform, space: LOCATOR_SPACE, length: text.length, position, text });
  }
  return {
    uuid: Uint8Array.from(uuid.match(/../g)!, (hex) => Number.parseInt(hex, 16)),
    timestamp: 0,
    name: windows(absolute ?? path),
    locators,
  };
}

const isAbsolute = (path: string) => /^([a-z]:)?[\\/]/i.test(path);
const windows = (path: string) => path.replaceAll("/", "\\");

function* put(store: Store, position: number, bytes: Uint8Array): Flow {
  yield* wait(store.writev(position, bytes, SegmentList.of(0, bytes.length)));
}

function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
