import { ParavaneError } from "../../../core/error.ts";
import { FRAMES_PER_SECOND } from "../address.ts";
import { Control } from "../disc.ts";
import type { SectorForm } from "../sector.ts";
import type { CueFile, CueSheet, CueTrack } from "./sheet.ts";

/** Track types, in the words that CDRWIN's manual and those who followed it use. */
const FORMS: Record<string, SectorForm> = {
  AUDIO: "audio",
  "MODE1/2048": "mode1/2048",
  "MODE1/2352": "mode1/2352",
  "MODE2/2048": "mode2/2048",
  "MODE2/2324": "mode2/2324",
  "MODE2/2336": "mode2/2336",
  "MODE2/2352": "mode2/2352",
  "CDI/2336": "mode2/2336",
  "CDI/2352": "mode2/2352",
};

const FLAGS: Record<string, number> = {
  DCP: Control.CopyPermitted,
  "4CH": Control.FourChannel,
  PRE: Control.PreEmphasis,
  // Serial copy management is not in the control bits; DATA repeats the track's type.
  SCMS: 0,
  DATA: 0,
};

/** Lead-out, lead-in and pre-gap between the first two sessions, and between later ones (Orange Book part II). */
const FIRST_GAP = 6750 + 4500 + 150;
const NEXT_GAP = 2250 + 4500 + 150;
/** More than 255 minutes are on no disc. */
const MAX_MINUTES = 255;

class Parser {
  readonly sheet: CueSheet = { files: [], tracks: [], sessions: [] };
  #line = 0;
  /** What remarks gave for the gap before the next session. */
  #leadOut: number | undefined;
  #leadIn: number | undefined;
  #session = 1;

  constructor(text: string) {
    for (const line of text.split(/\r\n|\r|\n/)) {
      this.#line++;
      const words = [...line.replace(/^\uFEFF/, "").matchAll(/"([^"]*)"|(\S+)/g)].map((m) => m[1] ?? m[2]);
      if (words.length > 0) this.#command(words[0].toUpperCase(), words.slice(1), line);
    }
    this.#finish();
  }

  #bad(what: string, line = this.#line): never {
    throw new ParavaneError("CORRUPT", `CUE sheet, line ${line}: ${what}`, { structure: "CUE sheet", line });
  }

  #track(command: string): CueTrack {
    return this.sheet.tracks.at(-1) ?? this.#bad(`${command} before the first TRACK`);
  }

  #command(command: string, words: string[], line: string): void {
    const wants = (count: number) => {
      if (words.length < count) this.#bad(`${command} wants ${count} ${count === 1 ? "value" : "values"}`);
    };
    switch (command) {
      case "CATALOG":
        wants(1);
        if (!/^\d{13}$/.test(words[0])) this.#bad("a CATALOG number has 13 digits");
        this.sheet.mcn = words[0];
        return;
      case "FILE":
        wants(2);
        this.#file(line, words);
        return;
      case "TRACK":
        wants(2);
        this.#newTrack(words[0], words[1].toUpperCase());
        return;
      case "INDEX":
        wants(2);
        this.#index(words[0], words[1]);
        return;
      case "PREGAP":
      case "POSTGAP":
        wants(1);
        this.#gap(command, words[0]);
        return;
      case "FLAGS":
        for (const word of words) this.#track(command).flags |= FLAGS[word.toUpperCase()] ?? this.#bad(`flag ${word}`);
        return;
      case "ISRC":
        wants(1);
        if (!/^[0-9A-Z]{5}\d{7}$/i.test(words[0])) this.#bad("an ISRC has 5 letters or digits, then 7 digits");
        this.#track(command).isrc = words[0].toUpperCase();
        return;
      case "TITLE":
      case "PERFORMER": {
        wants(1);
        const of = this.sheet.tracks.at(-1) ?? this.sheet;
        of[command === "TITLE" ? "title" : "performer"] = words.join(" ");
        return;
      }
      case "SONGWRITER":
      case "CDTEXTFILE":
        return;
      case "REM":
        this.#remark(words);
        return;
      default:
        this.#bad(`there is no command ${command}`);
    }
  }

  /** A name without quotes may hold blanks: the type is the last word. */
  #file(line: string, words: string[]): void {
    const type = words[words.length - 1].toUpperCase();
    if (type !== "BINARY" && type !== "MOTOROLA" && type !== "WAVE") {
      const hint = "Convert the tracks to WAVE or BINARY";
      const context = { structure: "CUE sheet", line: this.#line };
      throw new ParavaneError("UNSUPPORTED", `CUE sheet, line ${this.#line}: files of type ${type}`, context, { hint });
    }
    const quoted = /"([^"]*)"/.exec(line);
    const name = quoted ? quoted[1] : words.slice(0, -1).join(" ");
    if (name === "") this.#bad("FILE wants a name");
    this.sheet.files.push({ name, type: type as CueFile["type"], line: this.#line });
  }

  #newTrack(word: string, type: string): void {
    const number = /^\d{1,2}$/.test(word) ? Number(word) : 0;
    const last = this.sheet.tracks.at(-1);
    if (number === 0) this.#bad(`"${word}" is no track number from 1 to 99`);
    if (last && number !== last.number + 1) this.#bad(`track ${number} after track ${last.number}`);
    const form = FORMS[type];
    if (form === undefined) {
      const context = { structure: "CUE sheet", line: this.#line };
      throw new ParavaneError("UNSUPPORTED", `CUE sheet, line ${this.#line}: tracks of type ${type}`, context);
    }
    const interactive = type.startsWith("CDI");
    this.sheet.tracks.push({
      number,
      form,
      interactive,
      flags: 0,
      pregap: 0,
      postgap: 0,
      indexes: [],
      line: this.#line,
    });
  }

  #index(word: string, time: string): void {
    const track = this.#track("INDEX");
    const number = /^\d{1,2}$/.test(word) ? Number(word) : this.#bad(`"${word}" is no index from 0 to 99`);
    const file = this.sheet.files.length - 1;
    if (file < 0) this.#bad("INDEX before the first FILE");
    const last = track.indexes.at(-1);
    if (last ? number !== last.number + 1 : number > 1)
      this.#bad(`index ${number} of track ${track.number} is out of order`);
    const frame = this.#time(time);
    const before = last ?? this.sheet.tracks.at(-2)?.indexes.at(-1);
    if (before && before.file === file && frame < before.frame) this.#bad("the time is before that of the last INDEX");
    if (track.postgap > 0) this.#bad("INDEX after POSTGAP");
    track.indexes.push({ number, file, frame, line: this.#line });
  }

  #gap(command: "PREGAP" | "POSTGAP", time: string): void {
    const track = this.#track(command);
    if (command === "PREGAP") {
      if (track.indexes.length > 0) this.#bad("PREGAP after INDEX");
      track.pregap = this.#time(time);
    } else {
      if (track.indexes.length === 0) this.#bad("POSTGAP before INDEX");
      track.postgap = this.#time(time);
    }
  }

  /** SESSION, LEAD-OUT and LEAD-IN are remarks that tools for more than one session have agreed on. */
  #remark(words: string[]): void {
    const [what, value] = words;
    if (value === undefined) return;
    switch (what.toUpperCase()) {
      case "LEAD-OUT":
        this.#leadOut = this.#time(value);
        return;
      case "LEAD-IN":
        this.#leadIn = this.#time(value);
        return;
      case "SESSION": {
        const number = /^\d{1,2}$/.test(value) ? Number(value) : 0;
        if (number === 1 && this.sheet.tracks.length === 0) return;
        if (number !== this.#session + 1 || this.sheet.tracks.length === 0) this.#bad(`session ${value} out of order`);
        this.#session = number;
        const usual = number === 2 ? FIRST_GAP : NEXT_GAP;
        const given = this.#leadOut === undefined ? undefined : this.#leadOut + (this.#leadIn ?? 4500) + 150;
        const track = this.sheet.tracks.length;
        this.sheet.sessions.push({ beforeTrack: this.sheet.tracks[track - 1].number + 1, gap: given ?? usual });
        this.#leadOut = this.#leadIn = undefined;
      }
    }
  }

  #time(text: string): number {
    const [, minute, second, frame] = /^(\d{1,3}):(\d{2}):(\d{2})$/.exec(text) ?? this.#bad(`"${text}" is no mm:ss:ff`);
    if (Number(minute) > MAX_MINUTES || Number(second) > 59 || Number(frame) >= FRAMES_PER_SECOND) {
      this.#bad(`there is no time ${text}`);
    }
    return (Number(minute) * 60 + Number(second)) * FRAMES_PER_SECOND + Number(frame);
  }

  #finish(): void {
    if (this.sheet.tracks.length === 0) this.#bad("there is no TRACK");
    for (const track of this.sheet.tracks) {
      const start = track.indexes.find((index) => index.number === 1);
      if (!start) this.#bad(`track ${track.number} has no INDEX 01`, track.line);
      for (const index of track.indexes) {
        const file = this.sheet.files[index.file];
        if (file.type !== "BINARY" && track.form !== "audio") {
          this.#bad(`a data track in a file of type ${file.type}`, index.line);
        }
      }
    }
    if (this.sheet.sessions.some(({ beforeTrack }) => beforeTrack > this.sheet.tracks.at(-1)!.number)) {
      this.#bad("a session without a TRACK");
    }
  }
}

/** @throws ParavaneError CORRUPT or UNSUPPORTED, with the line */
export function parseCue(text: string): CueSheet {
  return new Parser(text).sheet;
}
