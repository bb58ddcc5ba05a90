// Audio play, and READ SUB-CHANNEL, which tells how it goes.
import { Asc, AudioStatus, ModePage, PacketOp, SenseKey } from "../../../../../../assembly/spec/mmc.ts";
import { framesToMsf, lbaToMsf, msfToLba } from "../../../../media/address.ts";
import { isAudio, type Track, trackAt } from "../../../../media/disc.ts";
import { positionOf } from "../../../../media/subchannel.ts";
import { type Answer, check, DONE, get16, get32, illegal, invalidField, put16, put32, reply } from "../answer.ts";
import { args, command, type Decoded, nothing, refuse } from "../command.ts";
import type { CdUnit } from "../unit.ts";
import { beyond } from "./read.ts";

interface Play {
  /** undefined: from where the head is. */
  lba: number | undefined;
  /** Sectors to play, or the first that is not to be. */
  count?: number;
  end?: number;
}

/** MMC-6, PLAY AUDIO (10): a start of all ones is where the head is. */
const HERE = 0xffffffff;

function decodePlay(lba: number, count: number): Decoded<Play> {
  return args({ lba: lba === HERE ? undefined : lba, count });
}

function play(unit: CdUnit, { lba, count, end }: Play): Answer {
  const disc = unit.medium!;
  unit.stopAudio(AudioStatus.None);
  const from = lba ?? unit.state.position;
  const to = end ?? from + count!;
  if (from < 0) return illegal(Asc.LbaOutOfRange);
  if (to < from) return invalidField(3);
  if (to === from) {
    if (from < disc.sectors) unit.state.position = from;
    return DONE;
  }
  const outside = beyond(unit, { lba: from, count: to - from });
  if (outside) return outside;
  const track = trackAt(disc, from);
  if (!track || !isAudio(track)) return check(SenseKey.IllegalRequest, Asc.IllegalModeForTrack, from);
  // MMC-3: stop on track crossing; a play that meets data stops with an error.
  const sotc = (unit.state.modes[ModePage.AudioControl][2] & 2) !== 0;
  const data = disc.tracks.find((each) => !isAudio(each) && each.pregap > from && each.pregap < to);
  if (sotc && track.end <= (data?.pregap ?? to)) unit.play(from, Math.min(track.end, to), AudioStatus.Completed);
  else unit.play(from, data?.pregap ?? to, data ? AudioStatus.Stopped : AudioStatus.Completed);
  return DONE;
}

function playCommand(code: PacketOp, name: string, decode: (packet: Uint8Array) => Decoded<Play>) {
  return command<Play>({ code, name, medium: true, decode, execute: play });
}

function decodeMsf(packet: Uint8Array): Decoded<Play> {
  const here = packet[3] === 0xff && packet[4] === 0xff && packet[5] === 0xff;
  for (const at of here ? [6] : [3, 6]) {
    if (packet[at + 1] > 59) return refuse(invalidField(at + 1));
    if (packet[at + 2] > 74) return refuse(invalidField(at + 2));
  }
  const lba = here ? undefined : msfToLba(packet[3], packet[4], packet[5]);
  const end = msfToLba(packet[6], packet[7], packet[8]);
  return lba !== undefined && lba > end ? refuse(invalidField(3)) : args({ lba, end });
}

/** SCSI-2: from an index of a track to the end of another. */
interface TrackIndex {
  from: [track: number, index: number];
  to: [track: number, index: number];
}

function indexStart(track: Track, index: number): number | undefined {
  if (index <= 1) return index === 0 ? track.pregap : track.start;
  return track.indexes[index - 2];
}

function playIndexes(unit: CdUnit, { from, to }: TrackIndex): Answer {
  const { tracks } = unit.medium!;
  const first = tracks.find(({ number }) => number === from[0]);
  // An end beyond the last track or index is the end of what there is.
  const last = tracks.find(({ number }) => number === to[0]) ?? (to[0] >= from[0] ? tracks.at(-1) : undefined);
  const lba = first && indexStart(first, from[1]);
  if (!last || lba === undefined) return invalidField(first ? 7 : 4);
  return play(unit, { lba, end: indexStart(last, to[1] + 1) ?? last.end });
}

const playTrackIndex = command<TrackIndex>({
  code: PacketOp.PlayAudioTrackIndex,
  name: "PLAY AUDIO TRACK INDEX",
  medium: true,
  decode: (packet) => args({ from: [packet[4], packet[5]], to: [packet[7], packet[8]] }),
  execute: playIndexes,
});

const pauseResume = command<boolean>({
  code: PacketOp.PauseResume,
  name: "PAUSE/RESUME",
  medium: true,
  decode: (packet) => args((packet[8] & 1) !== 0),
  execute(unit, resume) {
    const lba = unit.audioPosition();
    const { status, end, ends } = unit.state.audio;
    if (status === AudioStatus.Playing) {
      if (!resume) unit.pause();
    } else if (status !== AudioStatus.Paused) return illegal(Asc.CommandSequence);
    else if (resume) unit.play(lba, end, ends);
    return DONE;
  },
});

const stopPlayScan = command({
  code: PacketOp.StopPlayScan,
  name: "STOP PLAY/SCAN",
  medium: true,
  decode: nothing,
  execute(unit) {
    unit.stopAudio(AudioStatus.None);
    return DONE;
  },
});

interface SubChannel {
  msf: boolean;
  /** Is data wanted, besides the header? */
  data: boolean;
  format: number;
  track: number;
  allocation: number;
}

/** MMC-3. */
const Format = { Position: 1, Mcn: 2, Isrc: 3 };

/** A completed or failed play is told of once. */
function takeStatus(unit: CdUnit): AudioStatus {
  unit.audioPosition();
  const { audio } = unit.state;
  const { status } = audio;
  if (status === AudioStatus.Completed || status === AudioStatus.Stopped) audio.status = AudioStatus.None;
  return status;
}

function readSubChannel(unit: CdUnit, { msf, data, format, track, allocation }: SubChannel): Answer {
  const disc = unit.medium!;
  let body: number[] = [];
  if (data) {
    if (format === Format.Position) body = positionData(unit, msf);
    else if (format === Format.Mcn) body = named(Format.Mcn, [], disc.mcn);
    else {
      const of = disc.tracks.find(({ number }) => number === track);
      if (!of) return invalidField(6);
      body = named(Format.Isrc, [0x10 | of.control, track, 0], of.isrc);
    }
  }
  const bytes = new Uint8Array(4 + body.length);
  bytes[1] = takeStatus(unit);
  put16(bytes, 2, body.length);
  bytes.set(body, 4);
  return reply(bytes, allocation);
}

function positionData(unit: CdUnit, msf: boolean): number[] {
  const at = unit.audioPosition();
  const { status } = unit.state.audio;
  const moving = status === AudioStatus.Playing || status === AudioStatus.Paused;
  const lba = Math.min(moving ? at : unit.state.position, unit.medium!.sectors - 1);
  const { control, track, index, relative } = positionOf(unit.medium!, lba);
  return [Format.Position, 0x10 | control, track, index, ...address(lba, msf, false), ...address(relative, msf, true)];
}

function address(value: number, msf: boolean, relative: boolean): number[] {
  if (msf) {
    const { minute, second, frame } = relative ? framesToMsf(Math.abs(value)) : lbaToMsf(value);
    return [0, minute, second, frame];
  }
  const bytes = new Uint8Array(4);
  put32(bytes, 0, value >>> 0);
  return [...bytes];
}

/** A code of 13 or 12 characters, with the bit that says that there is one. */
function named(format: number, head: number[], code: string | undefined): number[] {
  const body = [format, ...head, ...new Array(20 - 1 - head.length).fill(0)];
  if (code === undefined) return body;
  body[4] = 0x80;
  for (let i = 0; i < code.length; i++) body[5 + i] = code.charCodeAt(i);
  return body;
}

const readSub = command<SubChannel>({
  code: PacketOp.ReadSubChannel,
  name: "READ SUB-CHANNEL",
  medium: true,
  decode(packet) {
    const data = (packet[2] & 0x40) !== 0;
    const format = packet[3];
    if (data && (format < Format.Position || format > Format.Isrc)) return refuse(invalidField(3));
    const msf = (packet[1] & 2) !== 0;
    return args({ msf, data, format, track: packet[6], allocation: get16(packet, 7) });
  },
  execute: readSubChannel,
});

export const AUDIO = [
  playCommand(PacketOp.PlayAudio10, "PLAY AUDIO (10)", (packet) => decodePlay(get32(packet, 2), get16(packet, 7))),
  playCommand(PacketOp.PlayAudio12, "PLAY AUDIO (12)", (packet) => decodePlay(get32(packet, 2), get32(packet, 6))),
  playCommand(PacketOp.PlayAudioMsf, "PLAY AUDIO MSF", decodeMsf),
  playTrackIndex,
  pauseResume,
  stopPlayScan,
  readSub,
];
