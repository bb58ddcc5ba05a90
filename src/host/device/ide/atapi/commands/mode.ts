// MODE SENSE and MODE SELECT, in their forms of six and ten bytes.
import { Asc, ModePage, PacketOp } from "../../../../../../assembly/spec/mmc.ts";
import { isAudio } from "../../../../media/disc.ts";
import { type Answer, DONE, get16, illegal, invalidField, invalidParameter, put16, reply } from "../answer.ts";
import { args, command, type Decoded, refuse } from "../command.ts";
import { CHANGEABLE, capabilities, PAGES } from "../mode-pages.ts";
import type { CdUnit } from "../unit.ts";

/** SPC-3: which values of a page. */
const Control = { Current: 0, Changeable: 1, Default: 2, Saved: 3 };

interface ModeSense {
  long: boolean;
  control: number;
  page: number;
  allocation: number;
}

function pageBytes(unit: CdUnit, code: number, control: number): readonly number[] {
  const page = CHANGEABLE[code];
  if (!page) {
    const all = capabilities(unit.isLocked, unit.state.speed);
    return control === Control.Changeable ? [code, all[1], ...new Array(all.length - 2).fill(0)] : all;
  }
  if (control === Control.Default) return page.defaults;
  if (control === Control.Changeable) return page.mask.map((bits, i) => (i < 2 ? page.defaults[i] : bits));
  return unit.state.modes[code];
}

/** SFF-8020i: medium type. */
function mediumType(unit: CdUnit): number {
  const { medium } = unit;
  if (unit.state.trayOpen) return 0x71;
  if (!medium) return 0x70;
  // 120 mm, by what is on it; nothing is defined for a DVD.
  if (medium.kind === "dvd") return 0;
  const audio = medium.tracks.filter(isAudio).length;
  return audio === 0 ? 1 : audio === medium.tracks.length ? 2 : 3;
}

function sense(unit: CdUnit, { long, control, page, allocation }: ModeSense): Answer {
  const codes = page === ModePage.All ? PAGES : [page];
  const pages = codes.flatMap((code) => [...pageBytes(unit, code, control)]);
  const header = long ? 8 : 4;
  const bytes = new Uint8Array(header + pages.length);
  if (long) {
    put16(bytes, 0, bytes.length - 2);
    bytes[2] = mediumType(unit);
  } else {
    bytes[0] = bytes.length - 1;
    bytes[1] = mediumType(unit);
  }
  bytes.set(pages, header);
  return reply(bytes, allocation);
}

function decodeSense(packet: Uint8Array, long: boolean): Decoded<ModeSense> {
  const control = packet[2] >> 6;
  const page = packet[2] & 0x3f;
  if (control === Control.Saved) return refuse(illegal(Asc.SavingNotSupported));
  if (page !== ModePage.All && !PAGES.includes(page)) return refuse(invalidField(2));
  // Sub-pages (SPC-3); byte 3 of the long form is reserved in SFF-8020i.
  if (packet[3] !== 0 && packet[3] !== 0xff) return refuse(invalidField(3));
  return args({ long, control, page, allocation: long ? get16(packet, 7) : packet[4] });
}

interface ModeSelect {
  long: boolean;
  length: number;
}

function decodeSelect(packet: Uint8Array, long: boolean): Decoded<ModeSelect> {
  // PF must be set: pages have the standard's form; SP must not be: nothing is saved.
  if ((packet[1] & 0x10) === 0 || packet[1] & 0x01) return refuse(invalidField(1));
  return args({ long, length: long ? get16(packet, 7) : packet[4] });
}

/** All pages are looked at before any is changed. */
function select(unit: CdUnit, { long }: ModeSelect, list: Uint8Array): Answer {
  const header = long ? 8 : 4;
  if (list.length < header) return illegal(Asc.ParameterListLength);
  // One block descriptor is passed over: older hosts send it, and it can only say 2,048.
  const descriptors = long ? get16(list, 6) : list[3];
  if (descriptors !== 0 && descriptors !== 8) return invalidParameter(long ? 6 : 3);
  const changes: [code: number, bytes: number[]][] = [];
  for (let at = header + descriptors; at < list.length; ) {
    const code = list[at] & 0x3f;
    if (!PAGES.includes(code)) return invalidParameter(at);
    const current = pageBytes(unit, code, Control.Current);
    if (at + 1 >= list.length) return illegal(Asc.ParameterListLength);
    if (list[at + 1] !== current[1]) return invalidParameter(at + 1);
    if (at + current.length > list.length) return illegal(Asc.ParameterListLength);
    const wanted = [code, ...list.subarray(at + 1, at + current.length)];
    const mask = pageBytes(unit, code, Control.Changeable);
    const wrong = wanted.findIndex((value, i) => i > 1 && (value ^ current[i]) & ~mask[i]);
    if (wrong >= 0) return invalidParameter(at + wrong);
    if (CHANGEABLE[code]) changes.push([code, wanted]);
    at += current.length;
  }
  if (header + descriptors > list.length) return illegal(Asc.ParameterListLength);
  for (const [code, bytes] of changes) unit.state.modes[code] = bytes;
  return DONE;
}

function modeSense(code: PacketOp, name: string, long: boolean) {
  return command<ModeSense>({ code, name, decode: (packet) => decodeSense(packet, long), execute: sense });
}

function modeSelect(code: PacketOp, name: string, long: boolean) {
  return command<ModeSelect>({
    code,
    name,
    decode: (packet) => decodeSelect(packet, long),
    execute: (_unit, { length }) => (length === 0 ? DONE : { kind: "want", length }),
    accept: select,
  });
}

export const MODE = [
  modeSense(PacketOp.ModeSense6, "MODE SENSE (6)", false),
  modeSense(PacketOp.ModeSense10, "MODE SENSE (10)", true),
  modeSelect(PacketOp.ModeSelect6, "MODE SELECT (6)", false),
  modeSelect(PacketOp.ModeSelect10, "MODE SELECT (10)", true),
];
