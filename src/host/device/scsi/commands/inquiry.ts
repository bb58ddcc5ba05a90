// INQUIRY and its vital product data.
import { ScsiOp, VpdPage } from "../../../../../assembly/spec/scsi.ts";
import { args, command, invalidField, MAX_TRANSFER, refuse, reply, type ScsiUnit } from "../command.ts";
import { get16, put16, put32, put64, putAscii } from "../fields.ts";
import { UNMAP_RANGES } from "./provisioning.ts";

interface Inquiry {
  /** -1: the standard data. */
  page: number;
  allocation: number;
}

/** SPC-4, Standard INQUIRY data: a direct access block device, not removable. */
function standard({ identity }: ScsiUnit): Uint8Array {
  const bytes = new Uint8Array(96);
  // Version 6, SPC-4; hierarchical LUNs, response format 2; commands are queued.
  bytes[2] = 0x06;
  bytes[3] = 0x12;
  bytes[4] = bytes.length - 5;
  bytes[7] = 0x02;
  putAscii(bytes, 8, 8, identity.vendor);
  putAscii(bytes, 16, 16, identity.product);
  putAscii(bytes, 32, 4, identity.revision);
  // SPC-4, Version descriptor values: SAM-5, SPC-4, SBC-3.
  [0x00a0, 0x0460, 0x04c0].forEach((standard, i) => {
    put16(bytes, 58 + 2 * i, standard);
  });
  return bytes;
}

/** SBC-3, Block Limits VPD page. */
function blockLimits({ blockSize, readOnly }: ScsiUnit): Uint8Array {
  const bytes = new Uint8Array(60);
  bytes[0] = 0x01; // WSNZ
  put16(bytes, 2, Math.max(1, 4096 / blockSize));
  put32(bytes, 4, MAX_TRANSFER / blockSize);
  if (readOnly) return bytes;
  put32(bytes, 16, 0xffffffff);
  put32(bytes, 20, UNMAP_RANGES);
  put32(bytes, 24, 1);
  put64(bytes, 32, MAX_TRANSFER / blockSize);
  return bytes;
}

/** SBC-3, Block Device Characteristics VPD page: a medium that does not rotate. */
function characteristics(): Uint8Array {
  const bytes = new Uint8Array(60);
  put16(bytes, 0, 1);
  return bytes;
}

/** SBC-3, Logical Block Provisioning VPD page: thin; UNMAP, and WRITE SAME with that bit. */
function provisioning({ readOnly }: ScsiUnit): Uint8Array {
  return Uint8Array.of(0, readOnly ? 0 : 0xe0, readOnly ? 0 : 2, 0);
}

/** SPC-4, Device Identification VPD page: an NAA designator in binary, and one of the T10 vendor in ASCII. */
function identification({ identity: { naa, vendor, product, serial } }: ScsiUnit): Uint8Array {
  const bytes = new Uint8Array(56);
  bytes.set([0x01, 0x03, 0, 8, ...naa, 0x02, 0x01, 0, 40]);
  putAscii(bytes, 16, 8, vendor);
  putAscii(bytes, 24, 12, product);
  putAscii(bytes, 36, 20, serial);
  return bytes;
}

function ascii(text: string, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  putAscii(bytes, 0, length, text);
  return bytes;
}

const VITAL: Record<number, (unit: ScsiUnit) => Uint8Array> = {
  [VpdPage.Supported]: () => Uint8Array.from(Object.keys(VITAL), Number),
  [VpdPage.SerialNumber]: ({ identity }) => ascii(identity.serial, 20),
  [VpdPage.Identification]: identification,
  [VpdPage.BlockLimits]: blockLimits,
  [VpdPage.Characteristics]: characteristics,
  [VpdPage.Provisioning]: provisioning,
};

const inquiry = command<Inquiry>({
  code: ScsiOp.Inquiry,
  name: "INQUIRY",
  always: true,
  decode(cdb) {
    const allocation = get16(cdb, 3);
    // CMDDT is obsolete.
    if ((cdb[1] & 2) !== 0) return refuse(invalidField(1));
    if ((cdb[1] & 1) !== 0) return cdb[2] in VITAL ? args({ page: cdb[2], allocation }) : refuse(invalidField(2));
    return cdb[2] === 0 ? args({ page: -1, allocation }) : refuse(invalidField(2));
  },
  execute(unit, { page, allocation }) {
    if (page < 0) return reply(standard(unit), allocation);
    const body = VITAL[page](unit);
    return reply(Uint8Array.of(0, page, 0, body.length, ...body), allocation);
  },
});

/** SPC-4: what INQUIRY says of a logical unit that there is not: qualifier 3, type 1Fh. */
export function nobody(allocation: number): Uint8Array {
  const bytes = new Uint8Array(36);
  bytes[0] = 0x7f;
  bytes[2] = 0x06;
  bytes[3] = 0x12;
  bytes[4] = 31;
  putAscii(bytes, 8, 28, "");
  return bytes.subarray(0, allocation);
}

export const INQUIRY = [inquiry];
