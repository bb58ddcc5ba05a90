import { AtaFeature, AtaRegister, AtaTransfer } from "../../../../assembly/spec/ata.ts";
import { CommandBits, DriveField, IdeLimit, IdeOp } from "../../../../assembly/spec/ide.ts";
import { Status } from "../../../core/block.ts";
import type { Core } from "../../../wasm/core.ts";

/** A drive's registers and settings, as a command without media access works on them. */
export interface DriveState {
  readonly core: Core;
  /** Linear addresses of the channel's and the drive's context. */
  readonly channel: number;
  readonly drive: number;
  /** CommandBits of the command. */
  readonly traits: number;
}

/** How a command without media access ends; `flush` first makes everything written durable. */
export type Verdict = typeof Status.Ok | typeof Status.Unsupported | "flush";

const refuse = Status.Unsupported;

function get(state: DriveState, field: DriveField): number {
  return state.core.get(state.drive + field);
}
function set(state: DriveState, field: DriveField, value: number): Verdict {
  state.core.set(state.drive + field, value);
  return Status.Ok;
}
function register(state: DriveState, index: AtaRegister): number {
  return state.core.get(state.drive + DriveField.Registers + index * 4);
}
function setRegister(state: DriveState, index: AtaRegister, value: number): void {
  state.core.set(state.drive + DriveField.Registers + index * 4, value & 0xff);
}
function setPrevious(state: DriveState, index: AtaRegister, value: number): void {
  state.core.set(state.drive + DriveField.Previous + index * 4, value & 0xff);
}

/** ATA/ATAPI-6 §8.46. */
function setFeatures(state: DriveState): Verdict {
  switch (register(state, AtaRegister.Features)) {
    case AtaFeature.EnableWriteCache:
      return set(state, DriveField.WriteCache, 1);
    case AtaFeature.DisableWriteCache:
      set(state, DriveField.WriteCache, 0);
      return "flush";
    case AtaFeature.EnableReadAhead:
      return set(state, DriveField.ReadAhead, 1);
    case AtaFeature.DisableReadAhead:
      return set(state, DriveField.ReadAhead, 0);
    case AtaFeature.SetTransferMode:
      return setTransferMode(state, register(state, AtaRegister.Count));
    case AtaFeature.KeepOnReset:
    case AtaFeature.RevertOnReset:
      return Status.Ok;
    default:
      return refuse;
  }
}

/** §8.46.11. The two PIO forms name no DMA mode, so none stays selected. */
function setTransferMode(state: DriveState, mode: number): Verdict {
  const number = mode & AtaTransfer.Mode;
  const highest: Record<number, number> = {
    [AtaTransfer.PioDefault]: 1,
    [AtaTransfer.PioFlow]: 4,
    [AtaTransfer.SingleWordDma]: 2,
    [AtaTransfer.MultiWordDma]: 2,
    [AtaTransfer.UltraDma]: IdeLimit.UltraDma,
  };
  const limit = highest[mode & AtaTransfer.Kind];
  return limit !== undefined && number <= limit ? set(state, DriveField.TransferMode, mode) : refuse;
}

/** §8.48: a power of two up to what word 47 says; 0 switches READ and WRITE MULTIPLE off. */
function setMultiple(state: DriveState): Verdict {
  const sectors = register(state, AtaRegister.Count);
  if (sectors > IdeLimit.Multiple || (sectors & (sectors - 1)) !== 0) return refuse;
  return set(state, DriveField.Multiple, sectors);
}

/** §8.16 of ATA-5 (obsolete since): the translation that CHS addresses are in. */
function initializeParameters(state: DriveState): Verdict {
  const track = register(state, AtaRegister.Count);
  const heads = (register(state, AtaRegister.Device) & 0x0f) + 1;
  if (track === 0) return refuse;
  const sectors = get(state, DriveField.Sectors) + state.core.get(state.drive + DriveField.Sectors + 4) * 2 ** 32;
  set(state, DriveField.CurrentHeads, heads);
  set(state, DriveField.CurrentSectorsPerTrack, track);
  return set(state, DriveField.CurrentCylinders, Math.min(65535, Math.floor(sectors / (heads * track))));
}

/** §8.32, §8.33: the last address, in the form the Device register asks for. */
function readNativeMax(state: DriveState): Verdict {
  const sectors = get(state, DriveField.Sectors) + state.core.get(state.drive + DriveField.Sectors + 4) * 2 ** 32;
  if (sectors === 0) return refuse;
  const device = register(state, AtaRegister.Device);
  const ext = (state.traits & CommandBits.Ext) !== 0;
  if ((device & 0x40) === 0) {
    // The last sector of the default translation.
    if (ext) return refuse;
    const cylinder = get(state, DriveField.Cylinders) - 1;
    setRegister(state, AtaRegister.LbaLow, get(state, DriveField.SectorsPerTrack));
    setRegister(state, AtaRegister.LbaMid, cylinder);
    setRegister(state, AtaRegister.LbaHigh, cylinder >>> 8);
    setRegister(state, AtaRegister.Device, (device & 0xf0) | (get(state, DriveField.Heads) - 1));
    return Status.Ok;
  }
  const last = ext ? sectors - 1 : Math.min(sectors - 1, 0x0fffffff);
  setRegister(state, AtaRegister.LbaLow, last);
  setRegister(state, AtaRegister.LbaMid, last / 2 ** 8);
  setRegister(state, AtaRegister.LbaHigh, last / 2 ** 16);
  if (ext) {
    setPrevious(state, AtaRegister.LbaLow, last / 2 ** 24);
    setPrevious(state, AtaRegister.LbaMid, last / 2 ** 32);
    setPrevious(state, AtaRegister.LbaHigh, last / 2 ** 40);
  } else setRegister(state, AtaRegister.Device, (device & 0xf0) | (last / 2 ** 24));
  return Status.Ok;
}

/** §8.8: active or idle. Power modes change nothing here, so a drive never says that it stands by. */
function checkPower(state: DriveState): Verdict {
  setRegister(state, AtaRegister.Count, 0xff);
  return Status.Ok;
}

function identify(state: DriveState): Verdict {
  state.core.call.ideIdentify(state.channel);
  return Status.Ok;
}

const succeed = (): Verdict => Status.Ok;

/** What each command without media access does, by IdeOp. What the decoder has refused never comes here. */
const COMMANDS: Partial<Record<IdeOp, (state: DriveState) => Verdict>> = {
  [IdeOp.Identify]: identify,
  [IdeOp.SetFeatures]: setFeatures,
  [IdeOp.SetMultiple]: setMultiple,
  [IdeOp.InitializeParameters]: initializeParameters,
  [IdeOp.ReadNativeMax]: readNativeMax,
  // The core writes both drives' signatures when it ends the command.
  [IdeOp.Diagnostic]: succeed,
  [IdeOp.CheckPower]: checkPower,
  [IdeOp.Nothing]: succeed,
};

export function executeCommand(op: IdeOp, state: DriveState): Verdict {
  return COMMANDS[op]?.(state) ?? refuse;
}
