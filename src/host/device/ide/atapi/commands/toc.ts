// READ TOC/PMA/ATIP: what is on the disc.
import { PacketOp } from "../../../../../../assembly/spec/mmc.ts";
import { lbaToMsf } from "../../../../media/address.ts";
import { cdText } from "../../../../media/cd-text.ts";
import type { Disc, Session } from "../../../../media/disc.ts";
import { type Answer, get16, invalidField, put16, put32, reply } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import type { CdUnit } from "../unit.ts";

interface ReadToc {
  msf: boolean;
  format: number;
  track: number;
  allocation: number;
}

/** MMC-6, READ TOC/PMA/ATIP: formats. */
const Format = { Toc: 0, Session: 1, FullToc: 2, Pma: 3, Atip: 4, CdText: 5 };
const LEAD_OUT = 0xaa;

/** Four bytes: an address, as a number or as zero, minute, second, frame. */
function address(lba: number, msf: boolean): number[] {
  if (msf) {
    const { minute, second, frame } = lbaToMsf(lba);
    return [0, minute, second, frame];
  }
  const bytes = new Uint8Array(4);
  put32(bytes, 0, lba);
  return [...bytes];
}

/** The header: length of what follows it, first and last number. */
function withHeader(first: number, last: number, body: number[]): Uint8Array {
  const bytes = new Uint8Array(4 + body.length);
  put16(bytes, 0, 2 + body.length);
  bytes[2] = first;
  bytes[3] = last;
  bytes.set(body, 4);
  return bytes;
}

/** MMC-6, READ TOC/PMA/ATIP. */
function toc(disc: Disc, { msf, track }: ReadToc): Uint8Array | undefined {
  const first = disc.tracks[0].number;
  const last = disc.tracks[disc.tracks.length - 1];
  if (track > last.number && track !== LEAD_OUT) return undefined;
  const entry = (number: number, control: number, lba: number) => [0, 0x10 | control, number, 0, ...address(lba, msf)];
  const entries = disc.tracks
    .filter(({ number }) => number >= track)
    .flatMap(({ number, control, start }) => entry(number, control, start));
  return withHeader(first, last.number, [...entries, ...entry(LEAD_OUT, last.control, disc.sectors)]);
}

/** MMC-6, READ TOC/PMA/ATIP: the first track of the last session. */
function sessionInfo(disc: Disc, { msf }: ReadToc): Uint8Array {
  const last = disc.sessions[disc.sessions.length - 1];
  const track = disc.tracks.find(({ number }) => number === last.firstTrack)!;
  const body = [0, 0x10 | track.control, track.number, 0, ...address(track.start, msf)];
  return withHeader(disc.sessions[0].number, last.number, body);
}

/** MMC-6, READ TOC/PMA/ATIP: what sub-channel Q of the lead-ins says. Times only. */
function fullToc(disc: Disc, { track: from }: ReadToc): Uint8Array {
  const entries = disc.sessions.filter(({ number }) => number >= from).flatMap((session) => leadIn(disc, session));
  return withHeader(disc.sessions[0].number, disc.sessions[disc.sessions.length - 1].number, entries);
}

function leadIn(disc: Disc, session: Session): number[] {
  const tracks = disc.tracks.filter((track) => track.session === session.number);
  const [first, last] = [tracks[0], tracks[tracks.length - 1]];
  const entry = (control: number, point: number, p: number[]) => [
    ...[session.number, 0x10 | control, 0, point],
    ...[0, 0, 0],
    ...[0, ...p],
  ];
  const time = (lba: number) => address(lba, true).slice(1);
  return [
    ...entry(first.control, 0xa0, [session.firstTrack, session.type, 0]),
    ...entry(last.control, 0xa1, [session.lastTrack, 0, 0]),
    ...entry(last.control, 0xa2, time(session.leadOut)),
    ...tracks.flatMap((track) => entry(track.control, track.number, time(track.start))),
  ];
}

function execute(unit: CdUnit, request: ReadToc): Answer {
  const disc = unit.medium!;
  // MMC-6, READ TOC/PMA/ATIP: a DVD has no lead-in of this kind, and shows one track in the first two formats only.
  if (disc.kind === "dvd" && request.format > Format.Session) return invalidField(2);
  switch (request.format) {
    case Format.Toc: {
      const bytes = toc(disc, request);
      return bytes ? reply(bytes, request.allocation) : invalidField(6);
    }
    case Format.Session:
      return reply(sessionInfo(disc, request), request.allocation);
    case Format.FullToc:
      return reply(fullToc(disc, request), request.allocation);
    case Format.Pma:
      // Only a disc that was recorded has entries in its program memory area.
      return reply(withHeader(0, 0, []), request.allocation);
    case Format.CdText:
      return reply(withHeader(0, 0, [...cdText(disc)]), request.allocation);
    default:
      // ATIP is in the groove of recordable discs; the rest is reserved.
      return invalidField(2);
  }
}

const readToc = command<ReadToc>({
  code: PacketOp.ReadToc,
  name: "READ TOC/PMA/ATIP",
  medium: true,
  decode(packet) {
    // SFF-8020i has the format in the highest bits of byte 9.
    const format = packet[2] & 0x0f || packet[9] >> 6;
    if (format > Format.CdText) return refuse(invalidField(2));
    return args({ msf: (packet[1] & 2) !== 0, format, track: packet[6], allocation: get16(packet, 7) });
  },
  execute,
});

export const TOC = [readToc];
