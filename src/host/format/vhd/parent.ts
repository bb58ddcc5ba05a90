import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { NewParent } from "../../../core/format.ts";
import { DiskType, EPOCH, SECTOR } from "./footer.ts";
import { changedHeader, HEADER_BYTES, type HeaderParent, parseHeader } from "./header.ts";
import { read, write } from "./io.ts";
import type { DynamicLayout, Layout } from "./layout.ts";
import { MAX_BYTES, Platform, utf16 } from "./locator.ts";
import { cut, extend, footers } from "./publish.ts";
import { type Range, untouched } from "./table.ts";

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
  return { ...parent, locators, end } satisfies HeaderParent & { end: number };
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
 * The texts end in `homes`, which nothing else uses, if they fit there one by one.
 */
export function* writeParent(
  layout: Layout,
  dynamic: DynamicLayout,
  parent: ParentTexts | undefined,
  homes: readonly Range[],
): Flow {
  const { store } = layout;
  const type = parent ? DiskType.Differencing : DiskType.Dynamic;
  const start = layout.end;
  const made = parent && placed(parent, start);
  const end = made?.end ?? start;
  const header = changedHeader(dynamic.header.bytes, { parent: made ?? null });
  yield* extend(layout, end + HEADER_BYTES);
  for (const { position, text } of made?.locators ?? []) yield* write(store, Number(position), text);
  yield* write(store, end, header);
  yield* wait(store.flush());
  yield* footers(layout, { dataOffset: end, type });

  // Nothing refers to the old header and its texts any more.
  let final = header;
  const fits = made?.locators.every(({ length }, i) => i < homes.length && length <= homes[i].end - homes[i].start);
  if (made && fits) {
    const locators = made.locators.map((locator, i) => {
      const text = locator.text.subarray(0, homes[i].end - homes[i].start);
      return { ...locator, position: BigInt(homes[i].start), space: text.length, text };
    });
    for (const { position, text } of locators) yield* write(store, Number(position), text);
    final = changedHeader(header, { parent: { ...made, locators } });
  }
  dynamic.headerPosition = yield* headerHome(layout, dynamic);
  yield* write(store, dynamic.headerPosition, final);
  yield* wait(store.flush());
  yield* footers(layout, { dataOffset: dynamic.headerPosition, type });
  dynamic.header = parseHeader(final)!;
  yield* cut(layout, fits ? start : end);
}

/** Where the header goes: right behind the footer's copy, or, when something else is there, where it is. */
export function* headerHome({ store, end }: Layout, dynamic: DynamicLayout): Flow<number> {
  const { headerPosition, header } = dynamic;
  const home = { start: SECTOR, end: SECTOR + HEADER_BYTES };
  if (headerPosition < home.end) return headerPosition;
  const text = header.parent.locators.some(({ position }) => position < BigInt(home.end));
  return !text && (yield* untouched(store, dynamic, end, [home])) ? home.start : headerPosition;
}

/** Where the texts of the parent that there is now are, if nothing else is there. */
export function* presentHomes(layout: Layout, dynamic: DynamicLayout): Flow<Range[]> {
  const ranges = dynamic.header.parent.locators.map(({ position, space }) => ({
    start: Number(position),
    end: Number(position) + space,
  }));
  return (yield* untouched(layout.store, dynamic, layout.end, ranges)) ? ranges : [];
}

const isAbsolute = (path: string) => /^([a-z]:)?[\\/]/i.test(path);
const windows = (path: string) => path.replaceAll("/", "\\");

function invalid(message: string, hint?: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}
