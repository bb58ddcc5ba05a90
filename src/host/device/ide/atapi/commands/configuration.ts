// GET CONFIGURATION: profiles and features.
import { Feature, PacketOp, Profile } from "../../../../../../assembly/spec/mmc.ts";
import { type Answer, get16, invalidField, put16, put32, putAscii, reply } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import type { CdUnit } from "../unit.ts";

/** One feature: version and persistence, whether it is current, and its own data. */
interface FeatureRow {
  code: Feature;
  version: number;
  persistent?: boolean;
  current(unit: CdUnit): boolean;
  data(unit: CdUnit): number[];
}

const always = () => true;
const isCd = (unit: CdUnit) => unit.medium?.kind === "cd";
const isDvd = (unit: CdUnit) => unit.medium?.kind === "dvd";
const hasMedium = (unit: CdUnit) => unit.medium !== null;

function profile(unit: CdUnit): Profile {
  if (!unit.medium) return Profile.None;
  return isDvd(unit) ? Profile.DvdRom : Profile.CdRom;
}

/** MMC-6, in ascending order, each with the table of its data. */
const FEATURES: readonly FeatureRow[] = [
  {
    code: Feature.ProfileList,
    version: 0,
    persistent: true,
    current: always,
    data: (unit) => [Profile.DvdRom, Profile.CdRom].flatMap((each) => [0, each, profile(unit) === each ? 1 : 0, 0]),
  },
  // MMC-6: ATAPI interface; device busy events.
  { code: Feature.Core, version: 2, persistent: true, current: always, data: () => [0, 0, 0, 2, 1, 0, 0, 0] },
  // MMC-6: operational change events in polled form.
  { code: Feature.Morphing, version: 1, persistent: true, current: always, data: () => [2, 0, 0, 0] },
  // MMC-6: a tray, which loads, ejects and locks.
  { code: Feature.RemovableMedium, version: 1, persistent: true, current: always, data: () => [0x39, 0, 0, 0] },
  // MMC-6: 2,048-byte blocks, one a unit of a CD, sixteen of a DVD; page 01h is there.
  {
    code: Feature.RandomReadable,
    version: 0,
    current: hasMedium,
    data: (unit) => [0, 0, 8, 0, 0, isDvd(unit) ? 16 : 1, 1, 0],
  },
  { code: Feature.MultiRead, version: 0, current: isCd, data: () => [] },
  // MMC-6: DAP bit with READ CD, C2 pointers, CD-TEXT.
  { code: Feature.CdRead, version: 2, current: isCd, data: () => [0x83, 0, 0, 0] },
  { code: Feature.DvdRead, version: 0, current: isDvd, data: () => [] },
  { code: Feature.PowerManagement, version: 0, persistent: true, current: always, data: () => [] },
  // MMC-3: separate channel mute and volume, 256 levels.
  { code: Feature.AnalogPlay, version: 0, current: isCd, data: () => [0x03, 0, 1, 0] },
  { code: Feature.Timeout, version: 1, persistent: true, current: always, data: () => [0, 0, 0, 0] },
  // MMC-6: the rate is set by SET CD SPEED.
  { code: Feature.RealTimeStreaming, version: 0, current: hasMedium, data: () => [0x08, 0, 0, 0] },
  {
    code: Feature.SerialNumber,
    version: 0,
    persistent: true,
    current: always,
    data({ identity: { serial } }) {
      const bytes = new Uint8Array(Math.ceil(serial.length / 4) * 4);
      putAscii(bytes, 0, bytes.length, serial);
      return [...bytes];
    },
  },
];

interface GetConfiguration {
  /** MMC-6: 0 all, 1 current ones, 2 this one. */
  type: number;
  start: number;
  allocation: number;
}

function execute(unit: CdUnit, { type, start, allocation }: GetConfiguration): Answer {
  const wanted = FEATURES.filter(({ code, current }) => {
    if (type === 2) return code === start;
    return code >= start && (type === 0 || current(unit));
  });
  const body = wanted.flatMap(({ code, version, persistent, current, data }) => {
    const own = data(unit);
    const flags = (version << 2) | (persistent ? 2 : 0) | (current(unit) ? 1 : 0);
    return [code >> 8, code & 0xff, flags, own.length, ...own];
  });
  const bytes = new Uint8Array(8 + body.length);
  put32(bytes, 0, bytes.length - 4);
  put16(bytes, 6, profile(unit));
  bytes.set(body, 8);
  return reply(bytes, allocation);
}

const getConfiguration = command<GetConfiguration>({
  code: PacketOp.GetConfiguration,
  name: "GET CONFIGURATION",
  always: true,
  decode(packet) {
    const type = packet[1] & 3;
    if (type === 3) return refuse(invalidField(1));
    return args({ type, start: get16(packet, 2), allocation: get16(packet, 7) });
  },
  execute,
});

export const CONFIGURATION = [getConfiguration];
