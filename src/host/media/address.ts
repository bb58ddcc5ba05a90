/** Addresses on a compact disc: frames (sectors) of 1/75 second. */

export const FRAMES_PER_SECOND = 75;
/** ECMA-130 §22.2: LBA 0 is two seconds after the start of the program area's time. */
const PREGAP_FRAMES = 150;
/** The last address that minutes, seconds and frames can name; also what a longer medium shows (MMC-6). */
const MAX_FRAMES = (255 * 60 + 59) * FRAMES_PER_SECOND + 74;

export interface Msf {
  minute: number;
  second: number;
  frame: number;
}

/** A count of frames as minutes, seconds, frames. */
export function framesToMsf(frames: number): Msf {
  const capped = Math.min(Math.max(frames, 0), MAX_FRAMES);
  return {
    minute: Math.floor(capped / (60 * FRAMES_PER_SECOND)),
    second: Math.floor(capped / FRAMES_PER_SECOND) % 60,
    frame: capped % FRAMES_PER_SECOND,
  };
}

/** Absolute disc time of a logical block. */
export function lbaToMsf(lba: number): Msf {
  return framesToMsf(lba + PREGAP_FRAMES);
}

/** MMC-6: times from 90 minutes on name the lead-in, before LBA 0. */
export function msfToLba(minute: number, second: number, frame: number): number {
  return (minute * 60 + second) * FRAMES_PER_SECOND + frame - PREGAP_FRAMES - (minute >= 90 ? 450_000 : 0);
}

/** Two decimal digits in a byte. */
export function bcd(value: number): number {
  return (Math.floor(value / 10) << 4) | (value % 10);
}
