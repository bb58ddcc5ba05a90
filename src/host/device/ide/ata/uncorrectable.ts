// WRITE UNCORRECTABLE EXT (ATA8-ACS): sectors that read as bad until they are written.
import { AtaError, AtaRegister } from "../../../../../assembly/spec/ata.ts";
import { IdeField } from "../../../../../assembly/spec/ide.ts";
import type { AtaDisk, Verdict } from "./command.ts";
import type { DiskState } from "./state.ts";

/** In Features. "Pseudo" errors cover whole physical sectors, "flagged" ones the logical sectors named. */
const PSEUDO = [0x55, 0x5a];
const FLAGGED = [0xa5, 0xaa];

/** Ranges kept; one more, and the command aborts. */
const MAX_RANGES = 4096;

export function writeUncorrectable({ port, state, config }: AtaDisk): Verdict {
  const features = port.register(AtaRegister.Features);
  if (!PSEUDO.includes(features) && !FLAGGED.includes(features)) return false;
  if (config.block.readOnly || state.uncorrectable.length >= MAX_RANGES) return false;
  let from = port.channelField(IdeField.Lba) + port.channelField(IdeField.Lba + 4) * 2 ** 32;
  let to = from + port.channelField(IdeField.Remaining);
  if (to > state.visible) {
    port.fail(AtaError.IdNotFound);
    return "answered";
  }
  if (PSEUDO.includes(features)) {
    from -= from % config.physical;
    to = Math.min(state.visible, Math.ceil(to / config.physical) * config.physical);
  }
  forget(state, from, to);
  state.uncorrectable.push([from, to]);
  state.uncorrectable.sort(([a], [b]) => a - b);
  return true;
}

/** The first bad sector of [from, to), or -1. */
export function firstBad({ uncorrectable }: DiskState, from: number, to: number): number {
  for (const [first, end] of uncorrectable) if (first < to && end > from) return Math.max(first, from);
  return -1;
}

/** Sectors [from, to) have been written: they are good again. */
export function forget(state: DiskState, from: number, to: number): void {
  if (state.uncorrectable.length === 0) return;
  state.uncorrectable = state.uncorrectable.flatMap(([first, end]): [number, number][] => {
    if (end <= from || first >= to) return [[first, end]];
    const left: [number, number][] = [];
    if (first < from) left.push([first, from]);
    if (end > to) left.push([to, end]);
    return left;
  });
}
