import { type HostStatus, PvscsiCdb, PvscsiLimit, PvscsiPage } from "../../../../assembly/spec/pvscsi.ts";
import { PvscsiCapacity } from "../../../../assembly/spec/pvscsi-context.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { GuestMemory } from "../../../core/machine.ts";
import { SegmentList } from "../../../core/segments.ts";
import { PER_PAGE, type RingsState } from "./rings.ts";
import type { Task } from "./task.ts";

/** A command that was under way. Addresses are guest-physical. */
export interface SavedTask {
  context: [low: number, high: number];
  target: number;
  lunZero: boolean;
  cdb: number[];
  flags: number;
  /** -1 for none. */
  sense: number;
  senseLength: number;
  segments: [address: number, length: number][];
  ending: number;
}

/** The adapter with its targets; survives JSON. A later version of this package reads what an earlier one has written. */
export interface PvscsiState {
  version: 1;
  commandStatus: number;
  command: number;
  /** What has come of its descriptor. */
  words: number[];
  interruptStatus: number;
  interruptMask: number;
  rings: RingsState | null;
  /** Pending unit attention of each target. */
  attentions: [target: number, code: number][];
  tasks: SavedTask[];
}

export function saveTask(task: Task, memory: GuestMemory): SavedTask {
  const { segments } = task.buffer;
  return {
    context: [...task.context],
    target: task.target,
    lunZero: task.lunZero,
    cdb: Array.from(task.cdb),
    flags: task.flags,
    sense: task.sense === 0 ? -1 : task.sense - memory.base,
    senseLength: task.senseLength,
    segments: Array.from({ length: segments.count }, (_, i) => [segments.start(i) - memory.base, segments.length(i)]),
    ending: task.ending,
  };
}

export function restoreTask(saved: SavedTask, memory: GuestMemory, linear: Uint8Array): Task {
  const segments = new SegmentList();
  for (const [address, length] of saved.segments) segments.push(memory.base + address, length);
  return {
    context: saved.context,
    target: saved.target,
    lunZero: saved.lunZero,
    cdb: Uint8Array.from(saved.cdb),
    flags: saved.flags,
    sense: saved.sense < 0 ? 0 : memory.base + saved.sense,
    senseLength: saved.senseLength,
    buffer: { memory: linear, segments, bytes: segments.total },
    requests: null,
    ending: saved.ending as HostStatus,
    dead: false,
  };
}

/**
 * Looks at all that could lead outside guest memory or the context, for a save may come from anywhere.
 * @throws ParavaneError INVALID
 */
export function checkState(state: PvscsiState, memory: GuestMemory): void {
  try {
    check(state, memory);
  } catch (thrown) {
    // Anything may be missing, or be something else than it should.
    throw thrown instanceof ParavaneError ? thrown : wrong("its shape");
  }
}

function wrong(what: string): ParavaneError {
  return new ParavaneError("INVALID", `this is no saved state of this PVSCSI adapter: ${what}`, { structure: what });
}

function check(state: PvscsiState, memory: GuestMemory): void {
  const word = (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) <= 0xffffffff;
  const inside = (address: number, length: number) => word(address) && word(length) && address + length <= memory.size;
  const ring = (pages: readonly number[], most: number) =>
    Array.isArray(pages) &&
    pages.length <= most &&
    (pages.length & (pages.length - 1)) === 0 &&
    pages.every((page) => page % PvscsiPage.Size === 0 && inside(page, PvscsiPage.Size));
  if (state.version !== 1) throw wrong(`version ${state.version}`);
  const { rings, tasks, attentions } = state;
  const registers = [state.commandStatus, state.command, state.interruptStatus, state.interruptMask];
  if (!registers.every(word)) throw wrong("registers");
  if (!Array.isArray(state.words) || state.words.length > 132 || !state.words.every(word)) throw wrong("descriptor");
  if (rings) {
    if (!ring([rings.state], 1)) throw wrong("rings state");
    const { requests, completions, messages } = rings;
    const all = ring(requests, PvscsiLimit.RingPages) && ring(completions, PvscsiLimit.RingPages);
    if (!all || requests.length === 0 || completions.length === 0) throw wrong("rings");
    if (!ring(messages, PvscsiLimit.MessagePages)) throw wrong("message ring");
    if (![rings.consumed, rings.completed, rings.sent].every(word)) throw wrong("ring indices");
  }
  if (!attentions.every(([target, code]) => word(target) && word(code))) throw wrong("unit attentions");
  const most = rings ? rings.requests.length * PER_PAGE.requests : 0;
  if (!Array.isArray(tasks) || tasks.length > most) throw wrong("what is in flight");
  for (const task of tasks) {
    const plain = [task.context[0], task.context[1], task.target, task.flags, task.ending, task.senseLength].every(
      word,
    );
    const cdb = task.cdb.length === PvscsiCdb.Size && task.cdb.every((byte) => word(byte) && byte < 256);
    if (!plain || !cdb) throw wrong("a command");
    if (task.sense !== -1 && !inside(task.sense, task.senseLength)) throw wrong("a sense buffer");
    const bytes = task.segments.reduce((sum, [, length]) => sum + length, 0);
    if (task.segments.length > PvscsiCapacity.Elements || bytes > PvscsiCapacity.Bytes) throw wrong("a segment list");
    if (!task.segments.every(([address, length]) => inside(address, length))) throw wrong("a segment");
  }
}
