import { DriveField, IdeField, IdeLimit, IdePhase } from "../../../../assembly/spec/ide.ts";
import { ParavaneError } from "../../../core/error.ts";
import type { Core } from "../../../wasm/core.ts";
import { fromPlain, toPlain } from "./ata/state.ts";
import type { IdeDevice, Plain } from "./device.ts";

/** What a channel's device was asked for and had not answered when it was saved; it is asked again after a restore. */
export type Asked = "io" | "execute" | null;

/** One channel as plain data. */
export interface ChannelState {
  /** The words of the context from IdeField.Selected to the command table (assembly/spec/ide.ts). */
  words: number[];
  /** Base64: the PIO data block, as far as it is in use. */
  buffer: Plain;
  asked: Asked;
  /** IdeDevice.save of each device. */
  devices: Plain[];
}

/** The whole controller; survives JSON. A later version of this package reads what an earlier one has written. */
export interface IdeState {
  version: 1;
  channels: ChannelState[];
}

const FIRST = IdeField.Selected / 4;
const WORDS = (IdeField.Commands - IdeField.Selected) / 4;

export function saveChannel(
  core: Core,
  context: number,
  asked: Asked,
  devices: readonly (IdeDevice | null)[],
): ChannelState {
  const at = context >>> 2;
  const words = Array.from(core.u32.subarray(at + FIRST, at + FIRST + WORDS));
  const used = core.u32[at + IdeField.Phase / 4] === IdePhase.Idle ? 0 : core.u32[at + IdeField.BufferEnd / 4];
  const buffer = context + IdeField.Buffer;
  return {
    words,
    buffer: toPlain(core.u8.slice(buffer, buffer + used)),
    asked,
    devices: devices.map((device) => device?.save() ?? null),
  };
}

/**
 * Puts a saved channel into the context, but for the devices' own state. What could lead the core outside its bounds is
 * looked at first, for a save may come from anywhere. @throws ParavaneError INVALID, leaving the context as it was
 */
export function loadChannel(
  core: Core,
  context: number,
  state: ChannelState,
  devices: readonly (IdeDevice | null)[],
): void {
  const { words } = state;
  const word = (field: number): number => words[field / 4 - FIRST];
  const buffer = fromPlain(state.buffer);
  const wrong = (what: string): never => {
    throw new ParavaneError("INVALID", `this is no saved state of this IDE controller: ${what}`, { structure: what });
  };
  if (words.length !== WORDS || words.some((each) => !Number.isInteger(each) || each < 0 || each > 0xffffffff))
    wrong("words");
  if (!(buffer instanceof Uint8Array) || buffer.length > IdeLimit.BlockBytes) wrong("buffer");
  if (word(IdeField.Selected) > 1 || word(IdeField.Phase) > IdePhase.Reset) wrong("phase");
  if (word(IdeField.BufferAt) > word(IdeField.BufferEnd) || word(IdeField.BufferEnd) > IdeLimit.BlockBytes)
    wrong("block");
  if (word(IdeField.Unit) * word(IdeField.Block) > IdeLimit.BlockBytes || word(IdeField.Unit) > 4096) wrong("unit");
  if ((state.asked !== null) !== (word(IdeField.InFlight) !== 0)) wrong("what is in flight");
  if (state.asked !== null && !devices[word(IdeField.Selected)]) wrong("what is in flight");
  for (let i = 0; i < 2; i++) {
    const drive = IdeField.Drives + i * DriveField.Size;
    if (word(drive + DriveField.Kind) !== (devices[i]?.kind ?? 0)) wrong(`drive ${i} is of another kind`);
    const own = (context + drive) >>> 2;
    if (word(drive + DriveField.SectorBytes) !== core.u32[own + DriveField.SectorBytes / 4])
      wrong(`drive ${i} has other sectors`);
    if (word(drive + DriveField.Multiple) * word(drive + DriveField.SectorBytes) > IdeLimit.BlockBytes)
      wrong(`drive ${i}, multiple`);
  }
  const floating = core.u32[(context + IdeField.Floating) >>> 2];
  core.u32.set(words, (context >>> 2) + FIRST);
  // The adapter's, not the guest's.
  core.set(context + IdeField.Floating, floating);
  core.u8.set(buffer as Uint8Array, context + IdeField.Buffer);
}
