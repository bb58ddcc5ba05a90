import type { SectorType } from "../../../media/sector.ts";
import { RAW } from "../../../media/sector.ts";

/** MMC-6, READ CD: main channel selection bits of READ CD, its byte 9. */
export const Select = { Sync: 0x80, SubHeader: 0x40, Header: 0x20, User: 0x10, Edc: 0x08, All: 0xf8 } as const;

type Part = "sync" | "header" | "subheader" | "user" | "edc";

/** Where each part of a sector starts and ends, in order (ECMA-130 §14, §21; Yellow Book XA). */
const PARTS: Record<SectorType, [part: Part, from: number, to: number][]> = {
  audio: [["user", 0, RAW]],
  mode1: [
    ["sync", 0, 12],
    ["header", 12, 16],
    ["user", 16, 2064],
    ["edc", 2064, RAW],
  ],
  formless: [
    ["sync", 0, 12],
    ["header", 12, 16],
    ["user", 16, RAW],
  ],
  form1: [
    ["sync", 0, 12],
    ["header", 12, 16],
    ["subheader", 16, 24],
    ["user", 24, 2072],
    ["edc", 2072, RAW],
  ],
  // The last four bytes may be an EDC, or nothing: they come with the user data.
  form2: [
    ["sync", 0, 12],
    ["header", 12, 16],
    ["subheader", 16, 24],
    ["user", 24, RAW],
  ],
};

const BIT: Record<Part, number> = {
  sync: Select.Sync,
  header: Select.Header,
  subheader: Select.SubHeader,
  user: Select.User,
  edc: Select.Edc,
};

/**
 * Table 358: is this combination one at all, whatever the sector? EDC comes only after user data, and what comes after sync
 * is the header.
 */
export function isSelection(flags: number): boolean {
  if (flags & Select.Edc && !(flags & Select.User)) return false;
  return !(flags & Select.Sync && flags & (Select.SubHeader | Select.User)) || (flags & Select.Header) !== 0;
}

/**
 * The parts that a selection takes of a sector of this type, adjoining ones joined; undefined where table 358 has the
 * combination as illegal, which is where the selected parts leave one out between them. An audio sector is given whole.
 */
export function partsOf(type: SectorType, flags: number): [from: number, to: number][] | undefined {
  if ((flags & Select.All) === 0) return [];
  if (type === "audio") return [[0, RAW]];
  const parts = PARTS[type].filter(([part]) => flags & BIT[part]);
  for (let i = 1; i < parts.length; i++) if (parts[i][1] !== parts[i - 1][2]) return undefined;
  return parts.length === 0 ? [] : [[parts[0][1], parts[parts.length - 1][2]]];
}
