// File type identifier and headers (MS-VHDX 2.2.1, 2.2.2). Two headers, so that one is whole while the other is written;
// the one with the larger sequence number counts.
//
//   0        64 KiB     128 KiB    192 KiB        256 KiB        320 KiB      1 MiB
//   │ file id │ header 1 │ header 2 │ region table │ region table │ reserved │
import { type Flow, wait } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { guidAt, NO_GUID, newGuid, putGuid } from "../guid.ts";
import { intact, seal, sign, signed, viewOf } from "./crc32c.ts";
import { corrupt, MiB, putWide, read, SECTOR, unsupported, wide, write } from "./io.ts";

export const FILE_SIGNATURE = "vhdxfile";
const SIGNATURE = "head";
const POSITIONS = [64 * 1024, 128 * 1024];

export interface Header {
  sequence: bigint;
  /** Changes when anything in the file does. */
  fileWriteGuid: string;
  /** Changes when what a guest sees does: what children know their parent by. */
  dataWriteGuid: string;
  /** Zero when the log holds nothing to replay; else that of its valid entries. */
  logGuid: string;
  logVersion: number;
  version: number;
  logLength: number;
  logOffset: number;
}

function parse(bytes: Uint8Array): Header | null {
  if (!intact(bytes, SIGNATURE)) return null;
  const view = viewOf(bytes);
  return {
    sequence: view.getBigUint64(8, true),
    fileWriteGuid: guidAt(bytes, 16),
    dataWriteGuid: guidAt(bytes, 32),
    logGuid: guidAt(bytes, 48),
    logVersion: view.getUint16(64, true),
    version: view.getUint16(66, true),
    logLength: view.getUint32(68, true),
    logOffset: wide(view, 72),
  };
}

function buildHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const view = viewOf(bytes);
  view.setBigUint64(8, header.sequence, true);
  putGuid(bytes, 16, header.fileWriteGuid);
  putGuid(bytes, 32, header.dataWriteGuid);
  putGuid(bytes, 48, header.logGuid);
  view.setUint16(64, header.logVersion, true);
  view.setUint16(66, header.version, true);
  view.setUint32(68, header.logLength, true);
  putWide(view, 72, header.logOffset);
  return seal(bytes, SIGNATURE);
}

export function buildFileIdentifier(creator: string): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  sign(bytes, FILE_SIGNATURE);
  const view = viewOf(bytes);
  for (let i = 0; i < creator.length; i++) view.setUint16(8 + i * 2, creator.charCodeAt(i), true);
  return bytes;
}

export function* readCreator(store: Store): Flow<string> {
  const bytes = yield* read(store, 0, 8 + 512);
  if (!signed(bytes, FILE_SIGNATURE)) throw corrupt(store, "file type identifier", 0, "has no signature: not a VHDX");
  return new TextDecoder("utf-16le").decode(bytes.subarray(8)).split("\0")[0];
}

/** The two headers of one open image: which counts, and how it is replaced. */
export class Headers {
  readonly #store: Store;
  #current: Header;
  /** 0 or 1: which of the two it is. */
  #slot: number;

  private constructor(store: Store, current: Header, slot: number) {
    this.#store = store;
    this.#current = current;
    this.#slot = slot;
  }

  /** @throws ParavaneError CORRUPT, UNSUPPORTED */
  static *open(store: Store, onWarning: (message: string) => void): Flow<Headers> {
    const both: (Header | null)[] = [];
    for (const position of POSITIONS) both.push(parse(yield* read(store, position, SECTOR)));
    const [first, second] = both;
    if (!first && !second) {
      throw corrupt(store, "header", POSITIONS[0], "is damaged, and so is its twin: not a VHDX, or truncated");
    }
    // A creator is known that writes both with the same number; that is well as long as they say the same.
    if (first && second && first.sequence === second.sequence && differ(first, second)) {
      throw corrupt(
        store,
        "header",
        POSITIONS[0],
        "and its twin have the same sequence number but not the same content",
      );
    }
    const slot = !first || (second && second.sequence > first.sequence) ? 1 : 0;
    const current = both[slot]!;
    // All zeros or an older one is what an interrupted update leaves, but an update leaves one whole.
    if (!both[1 - slot]) onWarning(`header ${2 - slot} is damaged; the other is used`);
    const at = POSITIONS[slot];
    if (current.version !== 1) throw unsupported(store, "header", at, `has version ${current.version}, not 1`);
    if (current.logVersion !== 0 && current.logGuid !== NO_GUID) {
      throw unsupported(store, "header", at, `asks for a replay of log version ${current.logVersion}, not 0`);
    }
    const { logOffset, logLength } = current;
    if (
      logLength % MiB ||
      logOffset % MiB ||
      logOffset < MiB ||
      logLength < MiB ||
      logOffset + logLength > store.size
    ) {
      throw corrupt(store, "header", at, `puts the log at ${logOffset}, ${logLength} bytes long, where it cannot be`);
    }
    return new Headers(store, current, slot);
  }

  get current(): Readonly<Header> {
    return this.#current;
  }

  /** Makes a changed header the current one, durably (MS-VHDX 2.2.2.1). */
  *update(change: Partial<Header>): Flow {
    const next = { ...this.#current, ...change, sequence: this.#current.sequence + 1n };
    const slot = 1 - this.#slot;
    if (next.sequence === 2n ** 64n)
      throw corrupt(this.#store, "header", POSITIONS[slot], "has the last sequence number");
    yield* write(this.#store, POSITIONS[slot], buildHeader(next));
    yield* wait(this.#store.flush());
    this.#current = next;
    this.#slot = slot;
  }
}

function differ(a: Header, b: Header): boolean {
  return (Object.keys(a) as (keyof Header)[]).some((key) => a[key] !== b[key]);
}

/** The headers of a new image: the first current, the second its predecessor. */
export function* writeNewHeaders(store: Store, log: { offset: number; length: number }): Flow {
  const header: Header = {
    sequence: 1n,
    fileWriteGuid: newGuid(),
    dataWriteGuid: newGuid(),
    logGuid: NO_GUID,
    logVersion: 0,
    version: 1,
    logLength: log.length,
    logOffset: log.offset,
  };
  yield* write(store, POSITIONS[1], buildHeader({ ...header, sequence: 0n }));
  yield* write(store, POSITIONS[0], buildHeader(header));
}
