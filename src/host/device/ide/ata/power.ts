// Power modes (ATA/ATAPI-6 §6.11). They cost nothing here and show only in CHECK POWER MODE. SLEEP is a standby from which
// any command wakes the drive, as in QEMU and VirtualBox: a guest that forgets the reset must not lose its disk.
import { AtaCommand, AtaRegister } from "../../../../../assembly/spec/ata.ts";
import type { Clock } from "../../../../core/machine.ts";
import type { DevicePort } from "../port.ts";
import type { AtaDisk, Verdict } from "./command.ts";
import type { DiskState } from "./state.ts";

/** §8.17: the standby timer's period in milliseconds. */
function period(count: number): number {
  const second = 1000;
  if (count === 0) return 0;
  if (count <= 240) return count * 5 * second;
  if (count <= 251) return (count - 240) * 30 * 60 * second;
  if (count === 252) return 21 * 60 * second;
  if (count === 253) return 8 * 3600 * second;
  return count === 255 ? (21 * 60 + 15) * second : 12 * 3600 * second;
}

/** The standby timer starts when it is set, and again with each command for the media. */
function startTimer(port: DevicePort, state: DiskState): void {
  state.standbyAfter = period(port.count());
  state.lastCommand = port.clock.now();
}

export function power({ port, state }: AtaDisk): Verdict {
  switch (port.command) {
    case AtaCommand.Standby:
    case AtaCommand.StandbyOld:
      startTimer(port, state);
      state.standby = true;
      return "flush";
    case AtaCommand.Idle:
    case AtaCommand.IdleOld:
      startTimer(port, state);
      return true;
    case AtaCommand.IdleImmediate:
    case AtaCommand.IdleImmediateOld:
      return true;
    default:
      state.standby = true;
      return "flush";
  }
}

/** §8.7: 00h in Standby, FFh Active or Idle. */
export function checkPower({ port, state }: AtaDisk): Verdict {
  port.setRegister(AtaRegister.Count, isStandby(state, port.clock.now()) ? 0x00 : 0xff);
  return true;
}

function isStandby(state: DiskState, now: number): boolean {
  return state.standby || (state.standbyAfter !== 0 && now - state.lastCommand >= state.standbyAfter);
}

/** A command for the media has come: the drive is active. Only a running standby timer is worth a look at the clock. */
export function wake(state: DiskState, clock: Clock): void {
  state.standby = false;
  if (state.standbyAfter !== 0) state.lastCommand = clock.now();
}
