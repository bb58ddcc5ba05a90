import { ParavaneError } from "../../../core/error.ts";
import { Control, type DiscText, type Run, type Session, type Track } from "../disc.ts";
import { type SectorForm, STORED } from "../sector.ts";
import type { ByteSource } from "../source.ts";
import type { CueIndex, CueSheet, CueTrack } from "./sheet.ts";

/** An opened file of the sheet: where its sectors start, and how many bytes of them there are. */
export interface CueData {
  source: ByteSource;
  position: number;
  length: number;
}

export interface Layout {
  tracks: Track[];
  sessions: Session[];
  runs: Run[];
  sectors: number;
}

/** Beyond this no time code reaches. */
const MAX_SECTORS = 256 * 60 * 75;

/** A stretch of a file between two times of the sheet: sectors of one track. */
interface Piece {
  track: CueTrack;
  index: CueIndex;
  count: number;
  position: number;
}

/** Lays the sheet out on a disc. LBA 0 is the first sector of the first file, or of its PREGAP. */
export function layOut(sheet: CueSheet, data: readonly CueData[]): Layout {
  const pieces = cut(sheet, data);
  const tracks: Track[] = [];
  const sessions: Session[] = [];
  const runs: Run[] = [];
  let lba = 0;
  let session = 1;
  for (const cue of sheet.tracks) {
    const opens = sheet.sessions.find(({ beforeTrack }) => beforeTrack === cue.number);
    if (opens) {
      sessions.push(sessionOf(sheet, tracks, session, lba));
      session++;
      lba += opens.gap;
    }
    const pregap = lba;
    const starts = new Map<number, number>();
    const places: Omit<Run, "track">[] = [];
    const add = (count: number, piece?: Piece) => {
      if (count === 0) return;
      const file = piece && data[piece.index.file];
      const swapped = piece !== undefined && sheet.files[piece.index.file].type === "MOTOROLA";
      const { form } = cue;
      places.push({ lba, count, form, source: file?.source ?? null, position: piece?.position ?? 0, swapped });
      lba += count;
    };
    add(cue.pregap);
    for (const piece of pieces.filter(({ track }) => track === cue)) {
      starts.set(piece.index.number, lba);
      add(piece.count, piece);
    }
    add(cue.postgap);
    if (lba > MAX_SECTORS) throw wrong("the disc is longer than times can say", cue.line);
    const start = starts.get(1)!;
    if (lba === start) throw wrong(`track ${cue.number} has no sectors`, cue.line);
    const indexes = [...starts].filter(([number]) => number > 1).map(([, at]) => at);
    const control = (cue.form === "audio" ? 0 : Control.Data) | cue.flags;
    const { number, form, isrc } = cue;
    const track: Track = {
      number,
      session,
      control,
      form,
      pregap,
      start,
      end: lba,
      indexes,
      ...(isrc === undefined ? {} : { isrc }),
      ...textOf(cue),
    };
    tracks.push(track);
    for (const place of places) runs.push({ ...place, track });
  }
  sessions.push(sessionOf(sheet, tracks, session, lba));
  return { tracks, sessions, runs, sectors: lba };
}

/** `text`, where the sheet has any. */
export function textOf({ title, performer }: { title?: string; performer?: string }): { text?: DiscText } {
  if (title === undefined && performer === undefined) return {};
  return { text: { ...(title === undefined ? {} : { title }), ...(performer === undefined ? {} : { performer }) } };
}

/** What each INDEX holds: up to the next one in the same file, or that file's end. */
function cut(sheet: CueSheet, data: readonly CueData[]): Piece[] {
  const points = sheet.tracks.flatMap((track) => track.indexes.map((index) => ({ track, index })));
  const pieces: Piece[] = [];
  let position = 0;
  let frame = 0;
  points.forEach(({ track, index }, i) => {
    const file = data[index.file];
    const bytes = STORED[track.form].bytes;
    if (points[i - 1]?.index.file !== index.file) {
      position = file.position;
      frame = 0;
    }
    // What comes before the first time of a file has this track's form, and is passed over.
    if (index.frame > frame) {
      position += (index.frame - frame) * bytes;
      frame = index.frame;
    }
    const left = Math.floor((file.position + file.length - position) / bytes);
    const next = points[i + 1];
    const isLast = next === undefined || next.index.file !== index.file;
    // Samples may end within a sector, which zeros fill up; anything else is cut off.
    const rest = track.form === "audio" && (file.position + file.length - position) % bytes !== 0 ? 1 : 0;
    const count = isLast ? left + rest : next.index.frame - frame;
    if (count < 0 || (!isLast && count > left)) {
      throw wrong(`${sheet.files[index.file].name} ends before this time`, (isLast ? index : next.index).line);
    }
    pieces.push({ track, index, count, position });
    position += count * bytes;
    frame += count;
  });
  return pieces;
}

function sessionOf(sheet: CueSheet, tracks: readonly Track[], number: number, leadOut: number): Session {
  const own = tracks.filter(({ session }) => session === number);
  const interactive = sheet.tracks.some((cue) => cue.interactive && own.some((track) => track.number === cue.number));
  const xa = own.some(({ form }) => isMode2(form));
  const type = interactive ? 0x10 : xa ? 0x20 : 0;
  return { number, firstTrack: own[0].number, lastTrack: own.at(-1)!.number, leadOut, type };
}

function isMode2(form: SectorForm): boolean {
  return form.startsWith("mode2");
}

function wrong(what: string, line: number): ParavaneError {
  return new ParavaneError("CORRUPT", `CUE sheet, line ${line}: ${what}`, { structure: "CUE sheet", line });
}
