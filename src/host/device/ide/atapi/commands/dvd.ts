// READ DVD STRUCTURE (MMC-6's READ DISC STRUCTURE), and the keys of regions.
import { Asc, PacketOp } from "../../../../../../assembly/spec/mmc.ts";
import type { Disc } from "../../../../media/disc.ts";
import { type Answer, DONE, get16, illegal, invalidField, invalidParameter, put24, reply } from "../answer.ts";
import { args, command, type Decoded, refuse } from "../command.ts";
import type { CdUnit } from "../unit.ts";

/** ECMA-267 §16.1: the data area of a DVD starts at this physical sector. */
const DATA_START = 0x30000;
/** Sectors of one layer; what is larger has two (ECMA-267 §10). */
const LAYER = 2_295_104;
const STRUCTURE = 2048;

/** MMC-6: physical format information. */
function physical(disc: Disc, layer: number): number[] | undefined {
  const two = disc.sectors > LAYER;
  if (layer > (two ? 1 : 0)) return undefined;
  const data = new Uint8Array(STRUCTURE);
  // DVD-ROM, part version 1; 120 mm, no rate specified; layers, parallel track path, embossed; usual densities.
  data[0] = 0x01;
  data[1] = 0x0f;
  data[2] = (two ? 0x20 : 0) | 0x01;
  put24(data, 5, DATA_START);
  put24(data, 9, (DATA_START + disc.sectors - 1) & 0xffffff);
  put24(data, 13, two ? DATA_START + Math.ceil(disc.sectors / 2) - 1 : 0);
  return [...data];
}

interface Structure {
  format: number;
  layer: number;
  allocation: number;
}

/** Formats, and the bytes of each; burst cutting area is on no image. */
const FORMATS: Record<number, { length: number; data(disc: Disc, layer: number): number[] | undefined }> = {
  0: { length: STRUCTURE, data: physical },
  // No copy protection system, all regions.
  1: { length: 4, data: () => [0, 0, 0, 0] },
  4: { length: STRUCTURE, data: () => new Array(STRUCTURE).fill(0) },
};
/** MMC-6: the list of the others; readable, not to be sent. */
const LIST = 0xff;

function structure(unit: CdUnit, { format, layer, allocation }: Structure): Answer {
  const disc = unit.medium!;
  let data: number[] | undefined;
  if (format === LIST) {
    data = Object.entries(FORMATS).flatMap(([code, { length }]) => [Number(code), 0x40, ...half(length + 4)]);
  } else {
    if (disc.kind !== "dvd") return illegal(Asc.IncompatibleFormat);
    const of = FORMATS[format];
    if (!of) return invalidField(7);
    data = of.data(disc, layer);
    if (!data) return invalidField(6);
  }
  return reply(Uint8Array.from([...half(data.length + 2), 0, 0, ...data]), allocation);
}

function half(value: number): number[] {
  return [value >> 8, value & 0xff];
}

const readStructure = command<Structure>({
  code: PacketOp.ReadDiscStructure,
  name: "READ DVD STRUCTURE",
  medium: true,
  decode(packet) {
    // MMC-6: media type 0, DVD.
    if (packet[1] & 0x0f) return refuse(invalidField(1));
    return args({ format: packet[7], layer: packet[6], allocation: get16(packet, 8) });
  },
  execute: structure,
});

/** MMC-6: formats of REPORT KEY and SEND KEY that are for more than CSS discs. */
const Key = { Region: 6, RpcState: 8, Invalidate: 0x3f };

interface KeyRequest {
  format: number;
  length: number;
}

function decodeKey(packet: Uint8Array): Decoded<KeyRequest> {
  // Key class 0: DVD CSS.
  if (packet[7] !== 0) return refuse(invalidField(7));
  return args({ format: packet[10] & 0x3f, length: get16(packet, 8) });
}

/** No image holds the keys of a protected disc. */
function noKey(unit: CdUnit): Answer {
  if (!unit.medium) return { kind: "sense", sense: unit.notReady() };
  return illegal(unit.medium.kind === "dvd" ? Asc.KeyNotPresent : Asc.IncompatibleFormat);
}

const reportKey = command<KeyRequest>({
  code: PacketOp.ReportKey,
  name: "REPORT KEY",
  decode: decodeKey,
  execute(unit, { format, length }) {
    const { state } = unit;
    if (format === Key.RpcState) {
      // MMC-6: none, set, last chance, permanent; four resets by the vendor; changes left; RPC-II.
      const type = state.region === 0xff ? 0 : Math.max(1, 3 - state.regionChanges);
      const changes = (type << 6) | (4 << 3) | state.regionChanges;
      return reply(Uint8Array.of(0, 6, 0, 0, changes, state.region, 1, 0), length);
    }
    if (format === Key.Invalidate) return DONE;
    return noKey(unit);
  },
});

const sendKey = command<KeyRequest>({
  code: PacketOp.SendKey,
  name: "SEND KEY",
  decode: decodeKey,
  execute(unit, { format, length }) {
    if (format === Key.Invalidate) return DONE;
    if (format !== Key.Region) return noKey(unit);
    if (length !== 8) return invalidField(9);
    return unit.state.regionChanges === 0 ? illegal(Asc.RegionPermanent) : { kind: "want", length };
  },
  accept({ state }, _args, list) {
    if (list.length < 8 || list[1] < 6) return invalidParameter(1);
    state.region = list[4];
    state.regionChanges--;
    return DONE;
  },
});

export const DVD = [readStructure, reportKey, sendKey];
