import type { Disc } from "./disc.ts";
import { crcQ } from "./subchannel.ts";

/** Pack types (MMC-3 annex J, table J.2). */
const TITLE = 0x80;
const PERFORMER = 0x81;
const SIZE = 0x8f;
/** Bytes of text in a pack. */
const TEXT = 12;
/** A pack's sequence number is a byte. */
const MAX_PACKS = 256;

/** CD-TEXT packs of 18 bytes (MMC-3 annex J), one block in ISO 8859-1; none when the disc has no text. */
export function cdText(disc: Disc): Uint8Array {
  const first = disc.tracks[0].number;
  const last = disc.tracks[disc.tracks.length - 1].number;
  const packs: Uint8Array[] = [];
  const counts = new Map<number, number>();
  for (const type of [TITLE, PERFORMER]) {
    const key = type === TITLE ? "title" : "performer";
    const texts = [disc.text?.[key] ?? "", ...disc.tracks.map((track) => track.text?.[key] ?? "")];
    if (texts.every((text) => text === "")) continue;
    const before = packs.length;
    addTexts(packs, type, first, texts);
    counts.set(type, packs.length - before);
  }
  // Three packs of sizes end the block.
  if (packs.length === 0 || packs.length > MAX_PACKS - 3) return new Uint8Array(0);
  counts.set(SIZE, 3);
  const sizes = new Uint8Array(36);
  // Character code ISO 8859-1, first and last track, no copyright; packs of each type; last sequence number; English.
  sizes.set([0, first, last, 0]);
  for (let type = 0; type < 16; type++) sizes[4 + type] = counts.get(TITLE + type) ?? 0;
  sizes[20] = packs.length + 2;
  sizes[28] = 0x09;
  for (let i = 0; i < 3; i++) packs.push(pack(SIZE, i, packs.length, 0, sizes.subarray(i * TEXT, (i + 1) * TEXT)));
  return Uint8Array.from(packs.flatMap((bytes) => [...bytes]));
}

/** Texts one after the other, each ended by a zero; a pack names the track and position that its first character is of. */
function addTexts(packs: Uint8Array[], type: number, first: number, texts: readonly string[]): void {
  const bytes: number[] = [];
  const owners: [track: number, position: number][] = [];
  texts.forEach((text, i) => {
    for (let at = 0; at <= text.length; at++) {
      const code = at < text.length ? text.charCodeAt(at) : 0;
      bytes.push(code > 255 ? 0x3f : code);
      owners.push([i === 0 ? 0 : first + i - 1, Math.min(at, 15)]);
    }
  });
  for (let at = 0; at < bytes.length; at += TEXT) {
    const [track, position] = owners[at];
    packs.push(pack(type, track, packs.length, position, Uint8Array.from(bytes.slice(at, at + TEXT))));
  }
}

function pack(type: number, track: number, sequence: number, position: number, text: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(18);
  bytes.set([type, track, sequence, position]);
  bytes.set(text, 4);
  const crc = crcQ(bytes, 16);
  bytes[16] = crc >> 8;
  bytes[17] = crc;
  return bytes;
}
