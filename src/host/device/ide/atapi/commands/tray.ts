// Tray, lock and power.
import { Asc, EventClass, PacketOp, SenseKey } from "../../../../../../assembly/spec/mmc.ts";
import { type Answer, check, DONE, invalidField } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import { addEvent } from "../state.ts";
import type { CdUnit } from "../unit.ts";

interface StartStop {
  /** 0: none. */
  power: number;
  load: boolean;
  start: boolean;
}

/** MMC-6, START STOP UNIT: power conditions; 1 active, 2 idle, 3 standby, 5 sleep. */
const CONDITIONS = [0, 1, 2, 3, 5];

function startStop(unit: CdUnit, { power, load, start }: StartStop): Answer {
  const { state } = unit;
  if (power !== 0) {
    // Sleep ends with a reset; until then it is as good as standby.
    const next = Math.min(power, 3);
    if (next !== state.power) addEvent(state, EventClass.PowerManagement, 1);
    state.power = next;
    return DONE;
  }
  if (!load) {
    if (start && !unit.medium) return { kind: "sense", sense: unit.notReady() };
    state.power = 1;
    return DONE;
  }
  if (start) unit.closeTray();
  else if (!state.trayOpen && unit.isLocked) {
    return check(unit.disc ? SenseKey.NotReady : SenseKey.IllegalRequest, Asc.RemovalPrevented);
  } else unit.openTray();
  return DONE;
}

const startStopUnit = command<StartStop>({
  code: PacketOp.StartStopUnit,
  name: "START STOP UNIT",
  moves: true,
  decode(packet) {
    const power = packet[4] >> 4;
    if (!CONDITIONS.includes(power)) return refuse(invalidField(4));
    return args({ power, load: (packet[4] & 2) !== 0, start: (packet[4] & 1) !== 0 });
  },
  execute: startStop,
});

const preventAllow = command<number>({
  code: PacketOp.PreventAllow,
  name: "PREVENT ALLOW MEDIUM REMOVAL",
  decode: (packet) => args(packet[4] & 3),
  execute(unit, bits) {
    if (bits & 2) unit.state.persistent = (bits & 1) !== 0;
    else unit.state.prevent = (bits & 1) !== 0;
    return DONE;
  },
});

export const TRAY = [startStopUnit, preventAllow];
