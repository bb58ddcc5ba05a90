// Parent locator (MS-VHDX 2.6.2.6): key-value pairs that name the parent of a differencing disk.
import { ParavaneError } from "../../../core/error.ts";
import type { NewParent, ParentReference } from "../../../core/format.ts";
import { guidAt, NO_GUID, putGuid } from "../guid.ts";
import { viewOf } from "./crc32c.ts";

/** The one type that is defined: the parent is a VHDX. */
export const VHDX_LOCATOR = "b04aefb7-d19e-4a81-b789-25b8e9445913";
const HEADER_BYTES = 20;
const ENTRY_BYTES = 12;
/** Lengths are 16 bits of bytes, characters are UTF-16 (2.6.2.6.2). */
const MAX_CHARACTERS = 0x7fff;

export interface ParentLocator {
  type: string;
  /** Keys of type VHDX: parent_linkage, parent_linkage2, relative_path, volume_path, absolute_win32_path. */
  values: Record<string, string>;
}

/** @returns the locator, or what is wrong with it */
export function parseLocator(bytes: Uint8Array): ParentLocator | string {
  if (bytes.length < HEADER_BYTES) return `is ${bytes.length} bytes, less than its header`;
  const view = viewOf(bytes);
  const count = view.getUint16(18, true);
  if (HEADER_BYTES + count * ENTRY_BYTES > bytes.length) return `has ${count} entries, more than fit it`;
  const decoder = new TextDecoder("utf-16le");
  const values: Record<string, string> = {};
  for (let i = 0; i < count; i++) {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    const text = (offset: number, length: number) =>
      offset + length <= bytes.length ? decoder.decode(bytes.subarray(offset, offset + length)) : null;
    const key = text(view.getUint32(at, true), view.getUint16(at + 8, true));
    const value = text(view.getUint32(at + 4, true), view.getUint16(at + 10, true));
    if (key === null || value === null) return `has entry ${i} outside itself`;
    if (Object.hasOwn(values, key)) return `has key ${JSON.stringify(key)} twice`;
    Object.defineProperty(values, key, { value, enumerable: true });
  }
  return { type: guidAt(bytes, 0), values };
}

export function buildLocator(values: Record<string, string>): Uint8Array {
  const pairs = Object.entries(values);
  let end = HEADER_BYTES + pairs.length * ENTRY_BYTES;
  const bytes = new Uint8Array(end + pairs.reduce((sum, [key, value]) => sum + (key.length + value.length) * 2, 0));
  const view = viewOf(bytes);
  putGuid(bytes, 0, VHDX_LOCATOR);
  view.setUint16(18, pairs.length, true);
  pairs.forEach((pair, i) => {
    pair.forEach((text, which) => {
      const at = HEADER_BYTES + i * ENTRY_BYTES;
      view.setUint32(at + which * 4, end, true);
      view.setUint16(at + 8 + which * 2, text.length * 2, true);
      for (let c = 0; c < text.length; c++, end += 2) view.setUint16(end, text.charCodeAt(c), true);
    });
  });
  return bytes;
}

/**
 * The locator of a new parent. It is known again by its DataWriteGuid, `identity`.
 * @throws ParavaneError INVALID
 */
export function locatorOf(
  { path, absolutePath, identity, nextIdentity, format = "vhdx" }: NewParent,
  file: string,
): Uint8Array {
  const invalid = (message: string, hint: string) => new ParavaneError("INVALID", message, { file }, { hint });
  if (format !== "vhdx") throw invalid(`a VHDX cannot be based on ${format}`, "Its parent must be a VHDX too");
  if (identity === undefined || !GUID.test(identity)) {
    throw invalid(
      "a VHDX notes its parent's DataWriteGuid, and none was given",
      "Open the parent, and give its identity",
    );
  }
  const absolute = /^([a-z]:)?[\\/]/i;
  const windows = (name: string) => name.replaceAll("/", "\\");
  const [near, far] = absolute.test(path) ? [undefined, path] : [path, absolutePath];
  const values = {
    parent_linkage: `{${identity}}`,
    ...(nextIdentity !== undefined && { parent_linkage2: `{${nextIdentity}}` }),
    // Windows takes a bare name for nothing; it wants to see that the path is a relative one.
    ...(near && { relative_path: windows(near.startsWith(".") ? near : `./${near}`) }),
    ...(far && { absolute_win32_path: windows(far) }),
  };
  for (const value of Object.values(values)) {
    if (value.length <= MAX_CHARACTERS) continue;
    throw invalid(`a parent's path cannot be ${value.length} characters`, `${MAX_CHARACTERS} at most`);
  }
  return buildLocator(values);
}
const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** How to find the parent: where the file lies in relation to this one is the likeliest still to be true. */
export function parentReference({ values }: ParentLocator): ParentReference {
  const guid = (text: string) => text.replace(/[{}\s]/g, "").toLowerCase();
  const given = (...keys: string[]) => keys.map((key) => values[key]).filter((value) => value);
  return {
    paths: given("relative_path", "absolute_win32_path", "volume_path"),
    format: "vhdx",
    windows: true,
    identities: given("parent_linkage", "parent_linkage2")
      .map(guid)
      .filter((identity) => GUID.test(identity) && identity !== NO_GUID),
  };
}
