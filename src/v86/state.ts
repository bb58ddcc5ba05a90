import { ParavaneError } from "../core/error.ts";
import type { Later } from "../core/flow.ts";
import type { IdeState } from "../host/device/ide/save.ts";
import type { PvscsiState } from "../host/device/pvscsi/save.ts";
import type { VirtioState } from "../host/device/virtio/attach.ts";
import type { V86Cpu, V86Emulator } from "./internals.ts";

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
 * Makes `save_state` and `restore_state` of v86 carry the disks' state along. Returns what undoes it. A restore waits for what
 * the disks have under way at that moment, and the guest with it.
 * `restore_state` throws ParavaneError INVALID when the state holds none, or that of other disks.
 */
export function joinState(emulator: V86Emulator, cpu: V86Cpu, part: StatePart): () => void {
  const { get_state, set_state } = cpu;
  const { restore_state, v86 } = emulator as Running;
  let waiting: Later<void>;
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
    waiting = part.restore(ours);
    if (waiting) hold(v86, waiting);
  };
  const restore = async (state: ArrayBuffer) => {
    await restore_state.call(emulator, state);
    await waiting;
  };
  Object.assign(emulator, { restore_state: restore });
  return () => {
    Object.assign(cpu, { get_state, set_state });
    Object.assign(emulator, { restore_state });
  };
}

/** What v86's class has beside. */
interface Running extends V86Emulator {
  restore_state(state: ArrayBuffer): Promise<void>;
  readonly v86: { readonly running: boolean; run(): void; stop(): void };
}

/** The guest stands still until then. */
function hold(v86: Running["v86"], waiting: Promise<void>): void {
  if (!v86.running) return;
  v86.stop();
  // How it ended, restore_state tells.
  const goOn = () => v86.run();
  waiting.then(goOn, goOn);
}
