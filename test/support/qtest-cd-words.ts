import { PacketOp } from "../../assembly/spec/mmc.ts";

/** Words of data that may differ, each with the reason; of some only these bits. */
export interface Loose {
  words: ReadonlyMap<number, string>;
  bits?: ReadonlyMap<number, number>;
}

const each = (words: readonly number[], why: string): [number, string][] => words.map((word) => [word, why]);
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

/** Words of IDENTIFY PACKET DEVICE that differ on purpose, and what ATA/ATAPI-6 §8.16 says of them. */
export const IDENTIFY_PACKET: ReadonlyMap<number, string> = new Map([
  ...each([20, 21, 22], "retired"),
  ...each(range(27, 46), "model: vendor and product of INQUIRY together"),
  ...each([48, 51], "reserved and retired"),
  ...each([49, 53], "capabilities: we have IORDY that may be disabled, and say that word 88 is valid"),
  ...each(range(65, 68), "cycle times: those of multiword DMA 2 and PIO 4"),
  ...each([71, 72], "times to release the bus and to service, which only overlap has"),
  ...each([80, 81, 82, 83, 84, 85, 87], "versions and feature sets, of which QEMU tells nothing"),
  ...each([62, 63, 88], "transfer mode as set: QEMU's outlives resets"),
  ...each([93], "hardware reset result"),
]);

const NOTHING: Loose = { words: new Map() };

/** MODE SENSE (10): header, and what of each page is the drive's own (SFF-8020i). */
const MODES: Record<number, Loose> = {
  1: { words: new Map(each([0, 1, 4], "medium type of a data disc; the page has 12 bytes since MMC-2")) },
  14: {
    words: new Map(
      each(
        [1, ...range(4, 11)],
        "medium type; audio ports, blocks a second and volumes, where QEMU shows what was in its buffer",
      ),
    ),
  },
  42: { words: new Map(each([1, 5, 6, 7, 8, 9, 11], "medium type; what the drive can, and how fast")) },
};

function requestSense(fresh: boolean): Loose {
  const why = "SPC-3: VALID with an LBA only; a qualifier; a pointer to the field at fault. QEMU has none of them";
  const told =
    "SPC-3: sense data are told once, and are of the last command; QEMU goes on telling, and SRST clears them";
  return {
    words: new Map([...each([0, 1, 2, 3, 6, 7, 8], why), ...(fresh ? [] : each([1, 6], told))]),
    bits: new Map([[0, 0x80], [3, 0xff], ...(fresh ? [[1, 0xff00] as const, [6, 0xff00] as const] : [])]),
  };
}

function readToc(packet: readonly number[]): Loose {
  const msf = (packet[1] & 2) !== 0;
  switch (packet[9] >> 6) {
    case 0: {
      const word = packet[6] === 0xaa ? 2 : 6;
      const why = "ECMA-130 §22.3.1: the lead-out has the control bits of the track before it; QEMU adds one";
      return { words: new Map([[word, why]]), bits: new Map([[word, 0x0200]]) };
    }
    case 1:
      return { words: new Map(each([2, 3, 4, 5], "MMC-6: the first track of the last session; QEMU leaves it zero")) };
    default:
      return msf
        ? NOTHING
        : { words: new Map(each([17, 18, 23], "MMC-6: format 2 has times only; QEMU puts LBAs there")) };
  }
}

const NEVER_USER_DATA = "ECMA-130 §14: EDC, ECC and BCD addresses, which QEMU leaves out or has in binary";

/** READ CD with all of the sector: what is around the 2,048 bytes. */
function rawSectors(count: number): Loose {
  const words = new Map<number, string>();
  for (let sector = 0; sector < Math.min(count, 40); sector++)
    for (const word of [6, 7, ...range(1032, 1175)]) words.set(sector * 1176 + word, NEVER_USER_DATA);
  return { words };
}

/** Which words of a packet command's data may differ; `freshSense`: the last packet has failed, and nobody has asked why. */
export function looseWords(packet: readonly number[], freshSense: boolean): Loose {
  switch (packet[0]) {
    case PacketOp.RequestSense:
      return requestSense(freshSense);
    case PacketOp.Inquiry:
      return packet[1] & 1 ? { words: new Map(each(range(1, 127), "pages that QEMU has not, SPC-3")) } : NOTHING;
    case PacketOp.ReadToc:
      return readToc(packet);
    case PacketOp.GetConfiguration:
      return (packet[1] & 3) === 2
        ? NOTHING
        : { words: new Map(each([1, ...range(10, 127)], "MMC-6 §5: features that QEMU has not")) };
    case PacketOp.ReadDiscInformation:
      return { words: new Map(each([8, 9, 10, 11], "MMC-6: FFh for addresses of a lead-in that nobody will write")) };
    case PacketOp.GetEventStatus:
      return {
        words: new Map([
          ...each([0], "MMC-6: length of what follows this field; QEMU subtracts the header"),
          ...each([1], "classes that we support and QEMU not"),
        ]),
        bits: new Map([[1, 0xff00]]),
      };
    case PacketOp.MechanismStatus:
      return {
        words: new Map([...each([0], "MMC-6: door open"), ...each([1, 2], "MMC-6: the current LBA; QEMU says 0")]),
        bits: new Map([
          [0, 0x1000],
          [2, 0xff],
        ]),
      };
    case PacketOp.ModeSense10:
      return MODES[packet[2]] ?? NOTHING;
    case PacketOp.ReadCd:
      return (packet[9] & 0xf8) === 0xf8 ? rawSectors((packet[6] << 16) | (packet[7] << 8) | packet[8]) : NOTHING;
    default:
      return NOTHING;
  }
}
