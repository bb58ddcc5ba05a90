// MODE SENSE, in its forms of six and ten bytes. No page has anything to change, so there is no MODE SELECT.
import { Asc } from "../../../../../assembly/spec/mmc.ts";
import { DiskModePage, ScsiOp } from "../../../../../assembly/spec/scsi.ts";
import {
  args,
  command,
  type Decoded,
  illegal,
  invalidField,
  refuse,
  reply,
  type ScsiUnit,
  type Work,
} from "../command.ts";
import { get16, put16, put24, put32, put64 } from "../fields.ts";

/** SPC-4, Page control: which values of a page. */
const Control = { Current: 0, Changeable: 1, Default: 2, Saved: 3 };

interface ModeSense {
  long: boolean;
  control: number;
  page: number;
  allocation: number;
  /** Bytes of the block descriptor: none, its short or its long form. */
  descriptor: 0 | 8 | 16;
}

/** SBC-3 and SPC-4: read-write error recovery, caching with the write cache on, control. */
const PAGES: Record<number, readonly number[]> = {
  [DiskModePage.ErrorRecovery]: [0x01, 10, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [DiskModePage.Caching]: [0x08, 18, 0x04, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  [DiskModePage.Control]: [0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0],
};

const WRITE_PROTECTED = 0x80;
/** FUA and DPO are understood. */
const DPO_FUA = 0x10;
const LONG_DESCRIPTOR = 0x01;

function descriptorOf({ blocks, blockSize }: ScsiUnit, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  if (length === 8) {
    put32(bytes, 0, Math.min(blocks, 0xffffffff));
    put24(bytes, 5, blockSize);
  } else if (length === 16) {
    put64(bytes, 0, blocks);
    put32(bytes, 12, blockSize);
  }
  return bytes;
}

function sense(unit: ScsiUnit, { long, control, page, allocation, descriptor }: ModeSense): Work {
  const codes = page === DiskModePage.All ? Object.keys(PAGES) : [page];
  const pages = codes.flatMap((code) => {
    const bytes = PAGES[Number(code)];
    return control === Control.Changeable ? bytes.map((byte, i) => (i < 2 ? byte : 0)) : [...bytes];
  });
  const header = long ? 8 : 4;
  const bytes = new Uint8Array(header + descriptor + pages.length);
  const parameter = DPO_FUA | (unit.readOnly ? WRITE_PROTECTED : 0);
  if (long) {
    put16(bytes, 0, bytes.length - 2);
    bytes[3] = parameter;
    bytes[4] = descriptor === 16 ? LONG_DESCRIPTOR : 0;
    put16(bytes, 6, descriptor);
  } else {
    bytes[0] = bytes.length - 1;
    bytes[2] = parameter;
    bytes[3] = descriptor;
  }
  bytes.set(descriptorOf(unit, descriptor), header);
  bytes.set(pages, header + descriptor);
  return reply(bytes, allocation);
}

const NO_DESCRIPTOR = 0x08;
const LONG_LBA = 0x10;

function decodeSense(cdb: Uint8Array, long: boolean): Decoded<ModeSense> {
  const control = cdb[2] >> 6;
  const page = cdb[2] & 0x3f;
  if (control === Control.Saved) return refuse(illegal(Asc.SavingNotSupported));
  if (page !== DiskModePage.All && !(page in PAGES)) return refuse(invalidField(2));
  // Sub-pages: none, or all that there are of all pages.
  if (cdb[3] !== 0 && !(cdb[3] === 0xff && page === DiskModePage.All)) return refuse(invalidField(3));
  const wide = long && (cdb[1] & LONG_LBA) !== 0;
  const descriptor = (cdb[1] & NO_DESCRIPTOR) !== 0 ? 0 : wide ? 16 : 8;
  return args({ long, control, page, descriptor, allocation: long ? get16(cdb, 7) : cdb[4] });
}

function modeSense(code: ScsiOp, name: string, long: boolean) {
  return command<ModeSense>({ code, name, decode: (cdb) => decodeSense(cdb, long), execute: sense });
}

export const MODE = [
  modeSense(ScsiOp.ModeSense6, "MODE SENSE (6)", false),
  modeSense(ScsiOp.ModeSense10, "MODE SENSE (10)", true),
];
