// INQUIRY and its vital product data.
import { PacketOp } from "../../../../../../assembly/spec/mmc.ts";
import { type Answer, invalidField, putAscii, reply } from "../answer.ts";
import { args, command, refuse } from "../command.ts";
import type { CdIdentity, CdUnit } from "../unit.ts";

/** SPC-3: CD or DVD drive. */
const DEVICE_TYPE = 0x05;

interface Inquiry {
  /** -1: the standard data. */
  page: number;
  allocation: number;
}

function standard({ vendor, product, revision }: CdIdentity): Uint8Array {
  const bytes = new Uint8Array(36);
  bytes[0] = DEVICE_TYPE;
  // Removable; ATAPI names no version; SFF-8020i: ATAPI version 2, response format 1.
  bytes[1] = 0x80;
  bytes[3] = 0x21;
  bytes[4] = 31;
  putAscii(bytes, 8, 8, vendor);
  putAscii(bytes, 16, 16, product);
  putAscii(bytes, 32, 4, revision);
  return bytes;
}

/** SPC-3: supported pages, serial number, device identification. */
const VITAL: Record<number, (identity: CdIdentity) => number[]> = {
  0: () => Object.keys(VITAL).map(Number),
  128: ({ serial }) => ascii(serial, 20),
  131: ({ vendor, model, serial }) => [
    // ASCII, vendor specific: the serial number.
    ...[2, 0, 0, 20, ...ascii(serial, 20)],
    // ASCII, T10 vendor identification.
    ...[2, 1, 0, 68, ...ascii(vendor, 8), ...ascii(model, 40), ...ascii(serial, 20)],
  ],
};

function ascii(text: string, length: number): number[] {
  const bytes = new Uint8Array(length);
  putAscii(bytes, 0, length, text);
  return [...bytes];
}

function execute(unit: CdUnit, { page, allocation }: Inquiry): Answer {
  if (page < 0) return reply(standard(unit.identity), allocation);
  const body = VITAL[page](unit.identity);
  return reply(Uint8Array.from([DEVICE_TYPE, page, 0, body.length, ...body]), allocation);
}

const inquiry = command<Inquiry>({
  code: PacketOp.Inquiry,
  name: "INQUIRY",
  always: true,
  decode(packet) {
    const allocation = (packet[3] << 8) | packet[4];
    if (packet[1] & 1) {
      return packet[2] in VITAL ? args({ page: packet[2], allocation }) : refuse(invalidField(2));
    }
    // A page without EVPD; CMDDT, which SPC-3 has made obsolete.
    if (packet[1] & 2) return refuse(invalidField(1));
    return packet[2] === 0 ? args({ page: -1, allocation }) : refuse(invalidField(2));
  },
  execute,
});

export const INQUIRY = [inquiry];
