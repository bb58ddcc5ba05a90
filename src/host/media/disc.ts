import type { Later } from "../../core/flow.ts";
import type { SectorForm } from "./sector.ts";
import type { ByteSource } from "./source.ts";

/** Control bits of sub-channel Q (ECMA-130 §22.3.1). */
export const Control = { PreEmphasis: 1, CopyPermitted: 2, Data: 4, FourChannel: 8 } as const;

/** A track. Addresses are LBAs, that is 0 for two seconds into the disc. */
export interface Track {
  /** 1 to 99. */
  readonly number: number;
  readonly session: number;
  /** Control bits. */
  readonly control: number;
  readonly form: SectorForm;
  /** Where its pre-gap (index 0) starts; equal to `start` without one. */
  readonly pregap: number;
  /** Index 1. */
  readonly start: number;
  /** The first LBA that is no longer its own. */
  readonly end: number;
  /** Where indexes 2, 3 and so on start. */
  readonly indexes: readonly number[];
  /** 12 characters. */
  readonly isrc?: string;
  readonly text?: DiscText;
}

/** What CD-TEXT tells of a disc or a track. */
export interface DiscText {
  readonly title?: string;
  readonly performer?: string;
}

export interface Session {
  readonly number: number;
  readonly firstTrack: number;
  readonly lastTrack: number;
  /** LBA of its lead-out. */
  readonly leadOut: number;
  /** What pointer A0 says (ECMA-130 §22.3.4.2): 00h CD-DA or CD-ROM, 10h CD-i, 20h CD-ROM XA. */
  readonly type: number;
}

/** Sectors that stand one after the other, on the disc and in the image. */
export interface Run {
  readonly lba: number;
  readonly count: number;
  readonly track: Track;
  readonly form: SectorForm;
  /** null for a gap that the image does not store: zeros. */
  readonly source: ByteSource | null;
  /** Byte of the first sector. */
  readonly position: number;
  /** Samples are stored high byte first. */
  readonly swapped?: boolean;
}

/** A medium for a CD or DVD drive: what is on it, and where its sectors are. read.ts reads them. */
export interface Disc {
  readonly kind: "cd" | "dvd";
  /** Sectors: the lead-out of the last session. */
  readonly sectors: number;
  readonly tracks: readonly Track[];
  readonly sessions: readonly Session[];
  /** Media catalogue number, 13 digits. */
  readonly mcn?: string;
  readonly text?: DiscText;
  /** By LBA, without overlaps; there are holes between sessions. */
  readonly runs: readonly Run[];
  /** Closes the image's files, if they are the disc's own. Idempotent. */
  close(): Later<void>;
}

/** The run that holds this LBA. */
export function runAt(disc: Disc, lba: number): Run | undefined {
  let low = 0;
  let high = disc.runs.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (disc.runs[middle].lba <= lba) low = middle + 1;
    else high = middle;
  }
  const run = disc.runs[low - 1];
  return run && lba < run.lba + run.count ? run : undefined;
}

/** The track that holds this LBA, its pre-gap included. */
export function trackAt(disc: Disc, lba: number): Track | undefined {
  return disc.tracks.findLast((track) => lba >= track.pregap && lba < track.end);
}

export function isAudio(track: Track): boolean {
  return (track.control & Control.Data) === 0;
}
