// READ CD and READ CD MSF: any part of any sector, with error pointers and sub-channels.
import { Asc, PacketOp, SenseKey } from "../../../../../../assembly/spec/mmc.ts";
import type { Flow } from "../../../../../core/flow.ts";
import { msfToLba } from "../../../../media/address.ts";
import { runAt } from "../../../../media/disc.ts";
import { readRaw } from "../../../../media/read.ts";
import { fixedType, type SectorType, typeOf, USER } from "../../../../media/sector.ts";
import { type Answer, check, DONE, get24, get32, illegal, invalidField, type ReadPlan } from "../answer.ts";
import { args, command, type Decoded, refuse } from "../command.ts";
import { isSelection, partsOf, Select } from "../selection.ts";
import type { CdUnit } from "../unit.ts";
import { beyond } from "./read.ts";

interface ReadCd {
  lba: number;
  count: number;
  /** The type that sectors must be of; undefined: any. */
  expected: SectorType | undefined;
  flags: number;
  c2: number;
  sub: number;
}

/** MMC-6, READ CD; the first entry is any type. */
const EXPECTED: (SectorType | undefined)[] = [undefined, "audio", "mode1", "formless", "form1", "form2"];
/** MMC-6, READ CD: none; pointers; block error byte, padding and pointers. */
const C2_BYTES = [0, 294, 296];
/** MMC-6, READ CD: none, raw P–W, Q, R–W. */
const SUB_BYTES: Record<number, number> = { 0: 0, 1: 96, 2: 16 };

function decode(packet: Uint8Array, lba: number, count: number): Decoded<ReadCd> {
  const type = (packet[1] >> 2) & 7;
  if (type >= EXPECTED.length) return refuse(invalidField(1));
  const c2 = C2_BYTES[(packet[9] >> 1) & 3];
  if (c2 === undefined) return refuse(invalidField(9));
  const flags = packet[9] & Select.All;
  if (!isSelection(flags)) return refuse(invalidField(9));
  const sub = SUB_BYTES[packet[10] & 7];
  if (sub === undefined) return refuse(invalidField(10));
  return args({ lba, count, expected: EXPECTED[type], flags, c2, sub });
}

function decodeMsf(packet: Uint8Array): Decoded<ReadCd> {
  for (const at of [3, 6]) {
    if (packet[at + 1] > 59) return refuse(invalidField(at + 1));
    if (packet[at + 2] > 74) return refuse(invalidField(at + 2));
  }
  const from = msfToLba(packet[3], packet[4], packet[5]);
  const to = msfToLba(packet[6], packet[7], packet[8]);
  if (from > to) return refuse(invalidField(3));
  return decode(packet, from, to - from);
}

function* execute(unit: CdUnit, { lba, count, expected, flags, c2, sub }: ReadCd): Flow<Answer> {
  if (count === 0) return DONE;
  const disc = unit.medium!;
  if (lba < 0) return check(SenseKey.IllegalRequest, Asc.LbaOutOfRange);
  const outside = beyond(unit, { lba, count });
  if (outside) return outside;
  if (flags + c2 + sub === 0) return DONE;
  // A DVD has none of a CD's parts but the user data.
  if (disc.kind === "dvd") {
    const plain = flags === Select.User && c2 + sub === 0 && (expected === undefined || expected === "mode1");
    return plain ? { kind: "read", plan: { lba, count, bytes: USER } } : illegal(Asc.IncompatibleFormat);
  }
  const run = runAt(disc, lba);
  if (!run) return check(SenseKey.IllegalRequest, Asc.LbaOutOfRange, lba);
  // Where each sector says itself of what type it is, the first one does for all: another ends the command.
  const type = fixedType(run.form) ?? typeOf(run.form, yield* readRaw(disc, lba, 1));
  if (expected !== undefined && expected !== type) {
    return check(SenseKey.IllegalRequest, Asc.IllegalModeForTrack, lba);
  }
  const parts = partsOf(type, flags);
  if (!parts) return invalidField(9);
  const main = parts.reduce((sum, [from, to]) => sum + to - from, 0);
  const plan: ReadPlan = { lba, count, bytes: main + c2 + sub, raw: { parts, type, c2, sub } };
  return plan.bytes === 0 ? DONE : { kind: "read", plan };
}

const readCd = command<ReadCd>({
  code: PacketOp.ReadCd,
  name: "READ CD",
  medium: true,
  moves: true,
  decode: (packet) => decode(packet, get32(packet, 2), get24(packet, 6)),
  execute,
});

const readCdMsf = command<ReadCd>({
  code: PacketOp.ReadCdMsf,
  name: "READ CD MSF",
  medium: true,
  moves: true,
  decode: decodeMsf,
  execute,
});

export const READ_CD = [readCd, readCdMsf];
