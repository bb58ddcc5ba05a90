// Data by logical block: READ, SEEK and what says how much there is.
import { Asc, PacketOp, SenseKey } from "../../../../../../assembly/spec/mmc.ts";
import { isAudio, trackAt } from "../../../../media/disc.ts";
import { USER } from "../../../../media/sector.ts";
import { type Answer, check, DONE, get16, get32, illegal, invalidField, put24, put32, reply } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import { MAX_SPEED } from "../state.ts";
import type { CdUnit } from "../unit.ts";

interface Range {
  lba: number;
  count: number;
}

/** The first block of the range that is past the end of the medium; undefined when there is none. */
export function beyond(unit: CdUnit, { lba, count }: Range): Answer | undefined {
  const { sectors } = unit.medium!;
  if (lba < sectors && count <= sectors - lba) return undefined;
  return check(SenseKey.IllegalRequest, Asc.LbaOutOfRange, Math.max(lba, sectors));
}

function read(unit: CdUnit, range: Range): Answer {
  if (range.count === 0) return DONE;
  const outside = beyond(unit, range);
  if (outside) return outside;
  const track = trackAt(unit.medium!, range.lba);
  if (track && isAudio(track)) return check(SenseKey.IllegalRequest, Asc.IllegalModeForTrack, range.lba);
  return { kind: "read", plan: { ...range, bytes: USER } };
}

const read10 = command<Range>({
  code: PacketOp.Read10,
  name: "READ (10)",
  medium: true,
  moves: true,
  decode: (packet) => args({ lba: get32(packet, 2), count: get16(packet, 7) }),
  execute: read,
});

const read12 = command<Range>({
  code: PacketOp.Read12,
  name: "READ (12)",
  medium: true,
  moves: true,
  decode: (packet) => args({ lba: get32(packet, 2), count: get32(packet, 6) }),
  execute: read,
});

const seek10 = command<number>({
  code: PacketOp.Seek10,
  name: "SEEK (10)",
  medium: true,
  moves: true,
  decode: (packet) => args(get32(packet, 2)),
  execute(unit, lba) {
    const outside = beyond(unit, { lba, count: 1 });
    if (outside) return outside;
    unit.state.position = lba;
    return DONE;
  },
});

const readCapacity = command({
  code: PacketOp.ReadCapacity,
  name: "READ CAPACITY",
  medium: true,
  decode: () => args(null),
  execute(unit) {
    const bytes = new Uint8Array(8);
    put32(bytes, 0, unit.medium!.sectors - 1);
    put32(bytes, 4, USER);
    return reply(bytes, bytes.length);
  },
});

/** MMC-6: descriptor types: formatted medium, no medium. */
const FORMATTED = 2;
const NO_MEDIUM = 3;

const readFormatCapacities = command<number>({
  code: PacketOp.ReadFormatCapacities,
  name: "READ FORMAT CAPACITIES",
  decode: (packet) => args(get16(packet, 7)),
  execute(unit, allocation) {
    const bytes = new Uint8Array(12);
    bytes[3] = 8;
    // Without a medium: the largest that the drive could take.
    put32(bytes, 4, unit.medium?.sectors ?? 0xffffffff);
    bytes[8] = unit.medium ? FORMATTED : NO_MEDIUM;
    put24(bytes, 9, USER);
    return reply(bytes, allocation);
  },
});

/** MMC-6: FFFFh is as fast as it can. */
const setCdSpeed = command<number>({
  code: PacketOp.SetCdSpeed,
  name: "SET CD SPEED",
  decode: (packet) => args(get16(packet, 2)),
  execute(unit, speed) {
    // At least 1×, which is 176.4 kB/s.
    unit.state.speed = Math.min(Math.max(speed, 176), MAX_SPEED);
    return DONE;
  },
});

const setReadAhead = command<[trigger: number, ahead: number]>({
  code: PacketOp.SetReadAhead,
  name: "SET READ AHEAD",
  medium: true,
  decode: (packet) => (packet[1] & 0x1f ? refuse(invalidField(1)) : args([get32(packet, 2), get32(packet, 6)])),
  execute: (unit, [trigger, ahead]) =>
    Math.max(trigger, ahead) < unit.medium!.sectors ? DONE : illegal(Asc.LbaOutOfRange),
});

export const READ = [read10, read12, seek10, readCapacity, readFormatCapacities, setCdSpeed, setReadAhead];
