// GET EVENT STATUS NOTIFICATION, polled.
import { EventClass, PacketOp } from "../../../../../../assembly/spec/mmc.ts";
import { type Answer, get16, invalidField, put16, reply } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import type { CdUnit } from "../unit.ts";

interface GetEvent {
  /** A bit for each class. */
  classes: number;
  allocation: number;
}

/** What stands in bytes 1 to 3 of the event of each class, besides its code (MMC-6). */
const STATUS: Record<number, (unit: CdUnit, code: number) => [number, number, number]> = {
  // Operational change: not prevented; the change is one of features.
  [EventClass.OperationalChange]: (_unit, code) => [0, 0, code === 0 ? 0 : 1],
  [EventClass.PowerManagement]: ({ state }) => [state.power, 0, 0],
  [EventClass.ExternalRequest]: () => [0, 0, 0],
  [EventClass.Media]: (unit) => [(unit.state.trayOpen ? 1 : 0) | (unit.medium ? 2 : 0), 0, 0],
  [EventClass.DeviceBusy]: () => [0, 0, 0],
};
const SUPPORTED = Object.keys(STATUS).reduce((mask, code) => mask | (1 << Number(code)), 0);
/** No event: none of the classes is supported. */
const NEA = 0x80;

function execute(unit: CdUnit, { classes, allocation }: GetEvent): Answer {
  const wanted = classes & SUPPORTED;
  if (wanted === 0) return reply(Uint8Array.of(0, 2, NEA, SUPPORTED), allocation);
  const { events } = unit.state;
  // MMC-6, GET EVENT STATUS NOTIFICATION: of classes with something to tell, the lowest; else the lowest that is asked for.
  const told = [...events].sort((a, b) => a.class - b.class).find((event) => wanted & (1 << event.class));
  const kind = told?.class ?? Math.log2(wanted & -wanted);
  const code = told?.code ?? 0;
  const bytes = new Uint8Array(8);
  put16(bytes, 0, 6);
  bytes[2] = kind;
  bytes[3] = SUPPORTED;
  bytes[4] = code;
  bytes.set(STATUS[kind](unit, code), 5);
  // An event is told once, and only when there is room for it.
  if (told && allocation > 4) events.splice(events.indexOf(told), 1);
  return reply(bytes, allocation);
}

const getEventStatus = command<GetEvent>({
  code: PacketOp.GetEventStatus,
  name: "GET EVENT STATUS NOTIFICATION",
  always: true,
  // Without IMMED it would be asynchronous, which is optional.
  decode: (packet) =>
    packet[1] & 1 ? args({ classes: packet[4], allocation: get16(packet, 7) }) : refuse(invalidField(1)),
  execute,
});

export const EVENT = [getEventStatus];
