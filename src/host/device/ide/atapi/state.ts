import { AudioStatus, type EventClass } from "../../../../../assembly/spec/mmc.ts";
import type { Sense } from "./answer.ts";

/** An event that GET EVENT STATUS NOTIFICATION has yet to tell: class and code. */
interface PendingEvent {
  class: EventClass;
  code: number;
}

/** The audio play. Times are milliseconds of the machine's clock. */
interface AudioState {
  status: AudioStatus;
  /** Where it was at `since`; while paused, where it is. */
  lba: number;
  /** First LBA that is not played. */
  end: number;
  /** The status that it ends with there. */
  ends: AudioStatus;
  since: number;
}

/** All that a drive remembers, as plain data. */
export interface UnitState {
  trayOpen: boolean;
  /** PREVENT ALLOW MEDIUM REMOVAL: bit 0, and the persistent one. */
  prevent: boolean;
  persistent: boolean;
  /** Of the last command that failed. */
  sense: Sense | null;
  /** Unit attentions, first one first, that no command has been told of. */
  attention: Sense[];
  /** A medium came in: 1 until a command is told that there was none, 2 until one is told of the change. */
  changed: 0 | 1 | 2;
  events: PendingEvent[];
  audio: AudioState;
  /** Current values of the mode pages that can be changed: page code → its bytes. */
  modes: Record<number, number[]>;
  /** kB/s. */
  speed: number;
  /** Where the head is. */
  position: number;
  /** 1 active, 2 idle, 3 standby (MMC-6). */
  power: number;
  /** RPC-II: the mask of regions that cannot be played, FFh without one, and how often it may still be set. */
  region: number;
  regionChanges: number;
}

/** Events beyond these are old news. */
const MAX_EVENTS = 8;

export function addEvent(state: UnitState, kind: EventClass, code: number): void {
  state.events.push({ class: kind, code });
  if (state.events.length > MAX_EVENTS) state.events.shift();
}

export function initialState(modes: Record<number, number[]>): UnitState {
  return {
    trayOpen: false,
    prevent: false,
    persistent: false,
    sense: null,
    attention: [],
    changed: 0,
    events: [],
    audio: { status: AudioStatus.None, lba: 0, end: 0, ends: AudioStatus.None, since: 0 },
    modes,
    speed: MAX_SPEED,
    position: 0,
    power: 1,
    region: 0xff,
    regionChanges: 5,
  };
}

/** 40 × 176.4 kB/s. */
export const MAX_SPEED = 7056;

/** Is this a state that `UnitState` describes? A save may come from anywhere. */
export function isState(value: unknown, modes: Record<number, readonly number[]>): value is UnitState {
  if (typeof value !== "object" || value === null) return false;
  const { attention, events, audio, modes: own, sense, ...rest } = value as UnitState;
  const flags = [rest.trayOpen, rest.prevent, rest.persistent];
  const counts = [rest.changed, rest.speed, rest.position, rest.power, rest.region, rest.regionChanges];
  return (
    flags.every((each) => typeof each === "boolean") &&
    counts.every(isCount) &&
    Array.isArray(attention) &&
    attention.length <= MAX_EVENTS &&
    attention.every(isSense) &&
    (sense === null || isSense(sense)) &&
    Array.isArray(events) &&
    events.length <= MAX_EVENTS &&
    events.every((each) => each.class in EVENT_CLASSES && isCount(each.code)) &&
    [audio?.status, audio?.lba, audio?.end, audio?.ends, audio?.since].every(isCount) &&
    Object.entries(modes).every(([code, page]) => {
      const bytes = own?.[Number(code)];
      return Array.isArray(bytes) && bytes.length === page.length && bytes.every((byte) => isCount(byte) && byte < 256);
    })
  );
}

const EVENT_CLASSES = { 1: true, 2: true, 3: true, 4: true, 6: true };

export function isCount(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isSense(value: Sense): boolean {
  return isCount(value?.key) && value.key < 16 && isCount(value.code) && value.code < 65536;
}
