import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { NewParent } from "../../../core/format.ts";
import { DiskType, EPOCH } from "./footer.ts";
import { changedHeader, HEADER_BYTES, type HeaderParent, type LocatedParent } from "./header.ts";
import { align, read, write } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";
import { MAX_BYTES, Platform, utf16 } from "./locator.ts";
import { cut, extend, footers } from "./publish.ts";
import { untouched } from "./table.ts";

/** Bytes that a parent locator has in the file, at least. */
const LOCATOR_SPACE = 4096;

/** A parent as the header notes it, with the texts of its locators. */
export interface ParentTexts extends Omit<HeaderParent, "locators"> {
  texts: { platform: number; text: Uint8Array }[];
}

/** @throws ParavaneError INVALID */
export function locate(parent: NewParent): ParentTexts {
  const { path, absolutePath, identity, format, modified } = parent;
  const [relative, absolute] = isAbsolute(path) ? [undefined, path] : [path, absolutePath];
  const known = identity !== undefined || format !== "raw";
  if (known && !/^[0-9a-f]{32}$/.test(identity ?? "")) {
    const hint = "The parent of a VHD is a VHD, known by its UUID, 32 lower-case hex digits, or a raw disk";
    throw invalid(`"${identity ?? ""}" is no UUID of a VHD`, hint);
  }
  const uuid = known ? Uint8Array.from(identity!.match(/../g)!, (hex) => Number.parseInt(hex, 16)) : new Uint8Array(16);
  const texts: ParentTexts["texts"] = [];
  for (const [platform, place] of [
    [Platform.W2ku, absolute],
    [Platform.W2ru, relative],
  ] as const) {
    if (place === undefined) continue;
    const text = utf16(windows(place), true);
    if (text.length === 0 || text.length > MAX_BYTES)
      throw invalid(`a parent's path has 1 to ${MAX_BYTES / 2} characters`);
    texts.push({ platform, text });
  }
  const timestamp = modified === undefined ? 0 : Math.min(0xffffffff, Math.max(0, Math.floor(modified) - EPOCH));
  return { uuid, timestamp, name: windows(absolute ?? path), texts };
}

/** The same with its texts in the file from `start` on. */
export function placed({ texts, ...parent }: ParentTexts, start: number) {
  let end = start;
  const locators = texts.map(({ platform, text }) => {
    const space = Math.ceil(text.length / LOCATOR_SPACE) * LOCATOR_SPACE;
    const position = BigInt(end);
    end += space;
    const padded = new Uint8Array(space);
    padded.set(text);
    return { platform, space, length: text.length, position, text: padded };
  });
  return { ...parent, locators, end } satisfies LocatedParent & { end: number };
}

/** The parent that there is, texts and all; without those that are not in the file. */
export function* presentParent({ store }: Layout, { header }: DynamicLayout): Flow<ParentTexts> {
  const { locators, ...parent } = header.parent;
  const texts: ParentTexts["texts"] = [];
  for (const { platform, length, position } of locators) {
    if (length > MAX_BYTES || position + BigInt(length) > BigInt(store.size)) continue;
    texts.push({ platform, text: yield* read(store, Number(position), length) });
  }
  return { ...parent, texts };
}

/**
 * Writes another parent, or none, into the header. That is in two sectors, so a new one comes first, with its texts at the
 * end of the file; then one footer after the other points there, while the usual place is written; then back.
 *
 *   copy │ header │ BAT │ blocks │ texts │ header │ footer
 *
 * The texts end where those of the old parent were, if they fit and `reuse` is set.
 */
export function* writeParent(
  layout: Layout,
  dynamic: DynamicLayout,
  parent: ParentTexts | undefined,
  reuse: boolean,
): Flow {
  const { store } = layout;
  const type = parent ? DiskType.Differencing : DiskType.Dynamic;
  const start = layout.end;
  const made = parent ? placed(parent, start) : { end: start, locators: [] };
  const header = changedHeader(dynamic.header.bytes, { parent: parent ? (made as LocatedParent) : null });
  yield* extend(layout, made.end + HEADER_BYTES);
  for (const { position, text } of made.locators) yield* write(store, Number(position), text);
  yield* write(store, made.end, header);
  yield* wait(store.flush());
  yield* footers(layout, { dataOffset: made.end, type });

  // Nothing refers to the old header and its texts any more.
  const homes = reuse ? dynamic.header.parent.locators : [];
  const ranges = homes.map(({ position, length }) => ({
    start: Number(position),
    end: Number(position) + align(length),
  }));
  const fits =
    made.locators.every(({ length }, i) => i < homes.length && length <= align(homes[i].length)) &&
    (yield* untouched(store, dynamic, start, ranges));
  let final = header;
  if (parent && fits) {
    const locators = made.locators.map((locator, i) => {
      const text = locator.text.subarray(0, align(homes[i].length));
      return { ...locator, position: homes[i].position, space: text.length, text };
    });
    for (const { position, text } of locators) yield* write(store, Number(position), text);
    final = changedHeader(header, { parent: { ...(made as LocatedParent), locators } });
  }
  yield* write(store, dynamic.headerPosition, final);
  yield* wait(store.flush());
  yield* footers(layout, { dataOffset: dynamic.headerPosition, type });
  yield* cut(layout, fits ? start : made.end);
}

const isAbsolute = (path: string) => /^([a-z]:)?[\\/]/i.test(path);
const windows = (path: string) => path.replaceAll("/", "\\");

function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
