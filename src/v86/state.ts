import { ParavaneError } from "../core/error.ts";
import type { Later } from "../core/flow.ts";
import type { IdeState } from "../host/device/ide/save.ts";
import type { PvscsiState } from "../host/device/pvscsi/save.ts";
import type { VirtioState } from "../host/device/virtio/attach.ts";
import type { V86Cpu } from "./internals.ts";

/** v86 numbers the parts of its state; this is far beyond its own. */
const INDEX = 186;

/** The disks' part of a saved state of v86; JSON. */
interface DisksState {
  version: 1;
  /** Configuration space by device number. */
  pci: Record<string, number[]>;
  /** Lines that v86's own devices assert, a bit each. */
  interrupts: number;
  ide: IdeState | null;
  /** Absent in states that earlier versions saved. */
  virtio?: VirtioState[];
  pvscsi?: PvscsiState | null;
}

export interface StatePart {
  save(): DisksState;
  restore(state: DisksState): Later<void>;
}

/**
 * Makes `save_state` and `restore_state` of v86 carry the disks' state along. Returns what undoes it.
 * `restore_state` throws ParavaneError INVALID when the state holds none, or that of other disks.
 */
export function joinState(cpu: V86Cpu, part: StatePart): () => void {
  const { get_state, set_state } = cpu;
  cpu.get_state = () => {
    const state = get_state.call(cpu);
    state[INDEX] = JSON.stringify(part.save());
    return state;
  };
  cpu.set_state = (state) => {
    const saved = state[INDEX];
    const ours = typeof saved === "string" ? (JSON.parse(saved) as DisksState) : null;
    if (ours?.version !== 1) {
      const hint = "Attach the same disks before the state is saved as before it is restored";
      throw new ParavaneError("INVALID", "this state of v86 was saved without these disks", {}, { hint });
    }
    set_state.call(cpu, state);
    part.restore(ours);
  };
  return () => Object.assign(cpu, { get_state, set_state });
}
