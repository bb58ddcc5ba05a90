import { bcd, framesToMsf, lbaToMsf } from "./address.ts";
import { type Disc, trackAt } from "./disc.ts";

/** ECMA-130 §22.3.6: x^16 + x^12 + x^5 + 1 over the first bytes, ten of sub-channel Q, inverted. */
export function crcQ(bytes: Uint8Array, length = 10): number {
  let crc = 0;
  for (let i = 0; i < length; i++) {
    crc ^= bytes[i] << 8;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1;
    crc &= 0xffff;
  }
  return crc ^ 0xffff;
}

/** Where a sector is: what sub-channel Q says in its mode 1. */
export interface QPosition {
  control: number;
  /** 1 to 99, AAh in the lead-out. */
  track: number;
  index: number;
  /** Frames from index 1; counts down to it, and is then below zero, in a pre-gap. */
  relative: number;
}

export function positionOf(disc: Disc, lba: number): QPosition {
  const track = trackAt(disc, lba);
  if (!track) {
    const out = disc.sessions.findLast((session) => lba >= session.leadOut) ?? disc.sessions[0];
    const last = disc.tracks.find((each) => each.number === out.lastTrack)!;
    return { control: last.control, track: 0xaa, index: 1, relative: Math.max(0, lba - out.leadOut) };
  }
  const later = track.indexes.filter((start) => lba >= start).length;
  return {
    control: track.control,
    track: track.number,
    index: lba < track.start ? 0 : 1 + later,
    relative: lba - track.start,
  };
}

/** The twelve bytes of sub-channel Q, mode 1 (ECMA-130 §22.3.3). */
export function subchannelQ(disc: Disc, lba: number): Uint8Array {
  const { control, track, index, relative } = positionOf(disc, lba);
  const bytes = new Uint8Array(12);
  bytes[0] = (control << 4) | 1;
  bytes[1] = track === 0xaa ? track : bcd(track);
  bytes[2] = bcd(index);
  const time = framesToMsf(Math.abs(relative));
  const absolute = lbaToMsf(lba);
  bytes.set([bcd(time.minute % 100), bcd(time.second), bcd(time.frame), 0], 3);
  bytes.set([bcd(absolute.minute % 100), bcd(absolute.second), bcd(absolute.frame)], 7);
  const crc = crcQ(bytes);
  bytes[10] = crc >> 8;
  bytes[11] = crc;
  return bytes;
}

/** All eight sub-channels of a sector, 96 bytes: P in bit 7 (one in a pre-gap), Q in bit 6, the rest zero. */
export function subchannelRaw(disc: Disc, lba: number): Uint8Array {
  const q = subchannelQ(disc, lba);
  const p = positionOf(disc, lba).index === 0 ? 0x80 : 0;
  const bytes = new Uint8Array(96);
  for (let i = 0; i < 96; i++) bytes[i] = p | (((q[i >> 3] >> (7 - (i & 7))) & 1) << 6);
  return bytes;
}
