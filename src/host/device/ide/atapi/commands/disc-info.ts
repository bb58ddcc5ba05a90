// READ DISC INFORMATION and READ TRACK INFORMATION.
import { Asc, PacketOp } from "../../../../../../assembly/spec/mmc.ts";
import { type Disc, isAudio, type Track, trackAt } from "../../../../media/disc.ts";
import { type Answer, get16, get32, illegal, invalidField, put16, put32, reply } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import type { CdUnit } from "../unit.ts";

const readDiscInformation = command<number>({
  code: PacketOp.ReadDiscInformation,
  name: "READ DISC INFORMATION",
  medium: true,
  // MMC-6: type 0, standard; the others are for Blu-ray.
  decode: (packet) => (packet[1] & 7 ? refuse(invalidField(1)) : args(get16(packet, 7))),
  execute(unit, allocation) {
    const disc = unit.medium!;
    const last = disc.sessions[disc.sessions.length - 1];
    const bytes = new Uint8Array(34);
    put16(bytes, 0, 32);
    // Last session complete, disc finalized.
    bytes[2] = 0x0e;
    bytes[3] = disc.tracks[0].number;
    bytes[4] = disc.sessions.length;
    bytes[5] = last.firstTrack;
    bytes[6] = last.lastTrack;
    // Unrestricted use.
    bytes[7] = 0x20;
    bytes[8] = last.type;
    // MMC-6: nothing can be added, so there is neither a next lead-in nor a last possible lead-out.
    if (disc.kind === "cd") bytes.fill(0xff, 16, 24);
    return reply(bytes, allocation);
  },
});

interface TrackInfo {
  /** 0 logical block, 1 track, 2 session (MMC-6). */
  kind: number;
  value: number;
  allocation: number;
}

function find(disc: Disc, { kind, value }: TrackInfo): Track | undefined {
  if (kind === 0) return trackAt(disc, value);
  if (kind === 1) return disc.tracks.find(({ number }) => number === value);
  return disc.tracks.find(({ session }) => session === value);
}

function trackInformation(unit: CdUnit, request: TrackInfo): Answer {
  const disc = unit.medium!;
  const track = find(disc, request);
  if (!track) return request.kind === 0 ? illegal(Asc.LbaOutOfRange) : invalidField(2);
  const bytes = new Uint8Array(36);
  put16(bytes, 0, 34);
  bytes[2] = track.number;
  bytes[3] = track.session;
  bytes[5] = track.control;
  // Data mode: 1, 2, or Fh where there is none.
  bytes[6] = isAudio(track) ? 0x0f : track.form.startsWith("mode1") ? 1 : 2;
  put32(bytes, 8, track.start);
  put32(bytes, 24, track.end - track.start);
  put32(bytes, 28, track.end - 1);
  // Last recorded address is valid.
  bytes[7] = 0x02;
  return reply(bytes, request.allocation);
}

const readTrackInformation = command<TrackInfo>({
  code: PacketOp.ReadTrackInformation,
  name: "READ TRACK INFORMATION",
  medium: true,
  decode(packet) {
    const kind = packet[1] & 3;
    if (kind === 3) return refuse(invalidField(1));
    return args({ kind, value: get32(packet, 2), allocation: get16(packet, 7) });
  },
  execute: trackInformation,
});

export const DISC_INFO = [readDiscInformation, readTrackInformation];
