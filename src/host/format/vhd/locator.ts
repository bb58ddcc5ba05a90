// Parent locators (VHD 1.0, "Dynamic Disk Header Format"): up to eight places where a differencing disk's parent may be,
// each in the words of one platform. An entry has 24 bytes: code, space, length, reserved, and the offset of the text.
import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Store } from "../../../core/store.ts";
import { SECTOR } from "./footer.ts";
import { align } from "./io.ts";

export const LOCATORS = 8;
export const LOCATOR_BYTES = 24;

/** "Platform Code", as the four letters that it is. */
export const Platform = {
  /** Absolute Windows path, UTF-16 little-endian. */
  W2ku: 0x57326b75,
  /** Windows path relative to the differencing disk, UTF-16 little-endian. */
  W2ru: 0x57327275,
  /** File URL (RFC 2396), UTF-8. */
  MacX: 0x4d616358,
} as const;
// "Wi2r" and "Wi2k" are deprecated and in some code page; "Mac " is an alias record. Nobody else can read them.

/** Longest text that is read: Windows paths end at 32,767 characters. */
export const MAX_BYTES = 65536;

export interface Locator {
  platform: number;
  /** Bytes of text. */
  length: number;
  position: bigint;
  /** Bytes that it has in the file, whole sectors. */
  space: number;
}

/** The entries that are in use. */
export function parseLocators(entries: Uint8Array): Locator[] {
  const view = new DataView(entries.buffer, entries.byteOffset, LOCATORS * LOCATOR_BYTES);
  const found: Locator[] = [];
  for (let at = 0; at < LOCATORS * LOCATOR_BYTES; at += LOCATOR_BYTES) {
    const platform = view.getUint32(at);
    if (platform === 0) continue;
    const [space, length] = [view.getUint32(at + 4), view.getUint32(at + 8)];
    found.push({ platform, length, position: view.getBigUint64(at + 16), space: spaceOf(space, length) });
  }
  return found;
}

/** "Platform Data Space" is in sectors in the specification, and in bytes in what Virtual PC and Windows write. */
function spaceOf(space: number, length: number): number {
  const bytes = space < SECTOR ? space * SECTOR : align(space);
  return bytes >= length && bytes <= MAX_BYTES ? bytes : align(length);
}

/** The path that the locator holds; undefined for platforms whose text only they can read. @throws CORRUPT */
export function* readLocator(store: Store, { platform, length, position }: Locator): Flow<string | undefined> {
  if (platform !== Platform.W2ku && platform !== Platform.W2ru && platform !== Platform.MacX) return undefined;
  if (length > MAX_BYTES || position + BigInt(length) > BigInt(store.size)) {
    const offset = Number(position);
    const structure = "parent locator";
    throw new ParavaneError(
      "CORRUPT",
      `a parent locator has ${length} bytes at ${offset}, of a file of ${store.size}`,
      {
        file: store.name,
        structure,
        offset,
      },
    );
  }
  const bytes = new Uint8Array(length);
  yield* wait(store.readv(Number(position), bytes, SegmentList.of(0, length)));
  const text = untilNul(new TextDecoder(platform === Platform.MacX ? "utf-8" : "utf-16le").decode(bytes));
  return (platform === Platform.MacX ? filePath(text) : text) || undefined;
}

/** The path of a file URL, such as XenServer's "file://./parent.vhd"; other URLs as they are. */
function filePath(url: string): string {
  const path = /^file:\/\/(?:localhost(?=\/))?(.*)$/i.exec(url)?.[1];
  if (path === undefined) return url;
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}

export function utf16(text: string, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(text.length * 2);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < text.length; i++) view.setUint16(i * 2, text.charCodeAt(i), littleEndian);
  return bytes;
}

/** "Parent Unicode Name": UTF-16 big-endian, filled up with zeros. */
export function parentName(bytes: Uint8Array): string {
  return untilNul(new TextDecoder("utf-16be").decode(bytes));
}

function untilNul(text: string): string {
  const end = text.indexOf("\0");
  return end < 0 ? text : text.slice(0, end);
}
