import type { SectorForm } from "../sector.ts";

/** What a CUE sheet says, checked word by word but not yet against its files. Times are frames. */
export interface CueSheet {
  /** CATALOG: 13 digits. */
  mcn?: string;
  title?: string;
  performer?: string;
  files: CueFile[];
  tracks: CueTrack[];
  /** Sessions that the sheet's remarks open: before which track, and the frames between the one before and it. */
  sessions: { beforeTrack: number; gap: number }[];
}

export interface CueFile {
  name: string;
  type: "BINARY" | "MOTOROLA" | "WAVE";
  line: number;
}

export interface CueIndex {
  number: number;
  /** Position in `files`. */
  file: number;
  frame: number;
  line: number;
}

export interface CueTrack {
  number: number;
  form: SectorForm;
  /** CD-i, as the disc type of its session tells. */
  interactive: boolean;
  /** Control bits that FLAGS sets. */
  flags: number;
  isrc?: string;
  title?: string;
  performer?: string;
  pregap: number;
  postgap: number;
  indexes: CueIndex[];
  line: number;
}
