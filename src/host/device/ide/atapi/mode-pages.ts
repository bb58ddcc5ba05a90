import { ModePage } from "../../../../../assembly/spec/mmc.ts";
import { put16 } from "./answer.ts";
import { MAX_SPEED } from "./state.ts";

/** A page as a host may set it: its bytes from the page code on, and which bits of them it may change. */
interface Changeable {
  defaults: number[];
  mask: number[];
}

/** Pages that MODE SELECT takes, each with its clause. Page code and length are the first two bytes. */
export const CHANGEABLE: Readonly<Record<number, Changeable>> = {
  // MMC-6: error recovery parameter, read retry count.
  [ModePage.ErrorRecovery]: {
    defaults: [ModePage.ErrorRecovery, 0x0a, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
    mask: [0, 0, 0x37, 0xff, 0, 0, 0, 0, 0, 0, 0, 0],
  },
  // MMC-3: inactivity time multiplier; 60 seconds a minute, 75 frames a second.
  [ModePage.CdDevice]: {
    defaults: [ModePage.CdDevice, 0x06, 0, 0, 0, 60, 0, 75],
    mask: [0, 0, 0, 0x0f, 0, 0, 0, 0],
  },
  // MMC-3: immediate; stop on track crossing; ports 0 and 1 are left and right, at full volume.
  [ModePage.AudioControl]: {
    defaults: [ModePage.AudioControl, 0x0e, 4, 0, 0, 0, 0, 75, 1, 0xff, 2, 0xff, 0, 0, 0, 0],
    mask: [0, 0, 2, 0, 0, 0, 0, 0, 0x0f, 0xff, 0x0f, 0xff, 0, 0, 0, 0],
  },
};

export const PAGES: readonly number[] = [...Object.keys(CHANGEABLE).map(Number), ModePage.Capabilities];

export function defaultModes(): Record<number, number[]> {
  return Object.fromEntries(Object.entries(CHANGEABLE).map(([code, { defaults }]) => [code, [...defaults]]));
}

/** MMC-3 (page 2Ah, C/DVD capabilities and mechanical status); nothing of it can be changed. */
export function capabilities(locked: boolean, speed: number): number[] {
  const page = new Uint8Array(22);
  page[0] = ModePage.Capabilities;
  page[1] = 20;
  // Reads CD-R, CD-RW, method 2, DVD-ROM, DVD-R.
  page[2] = 0x1f;
  // Plays audio; mode 2 forms 1 and 2; multi-session.
  page[4] = 0x71;
  // CD-DA by READ CD, accurately; C2 pointers; ISRC; media catalogue number.
  page[5] = 0x73;
  // Tray that opens by command, locks, has no prevention jumper.
  page[6] = 0x29 | (locked ? 0x02 : 0);
  // Each channel has its own volume and muting.
  page[7] = 0x03;
  put16(page, 8, MAX_SPEED);
  put16(page, 10, 256);
  // Buffer in KiB.
  put16(page, 12, 512);
  put16(page, 14, speed);
  return [...page];
}
