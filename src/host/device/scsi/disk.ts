import { Asc, SenseKey } from "../../../../assembly/spec/mmc.ts";
import { BlockAsc, ScsiOp } from "../../../../assembly/spec/scsi.ts";
import type { Block } from "../../../core/block.ts";
import { ParavaneError } from "../../../core/error.ts";
import { illegal, reply, type ScsiCommand, type ScsiIdentity, type ScsiUnit, type Work } from "./command.ts";
import { INQUIRY, nobody } from "./commands/inquiry.ts";
import { MEDIUM } from "./commands/medium.ts";
import { MODE } from "./commands/mode.ts";
import { PROVISIONING } from "./commands/provisioning.ts";
import { reportLuns, STATUS } from "./commands/status.ts";
import { get16 } from "./fields.ts";
import { type Sense, senseBytes } from "./sense.ts";

export interface ScsiDiskOptions {
  block: Block;
  /** What INQUIRY says; ASCII, at most 8, 16, 4 and 20 characters. */
  vendor?: string;
  product?: string;
  revision?: string;
  /** Default `PARAVANE` and the target's number; page 83h names the disk by it, too. */
  serial?: string;
  /** Bytes of a physical block: a power of two times the logical one, at most 2^15 of them; default: the logical block. */
  physicalBlockSize?: number;
}

const TABLE: (ScsiCommand[] | undefined)[] = [];
for (const each of [...STATUS, ...MEDIUM, ...INQUIRY, ...MODE, ...PROVISIONING]) {
  TABLE[each.code] = [...(TABLE[each.code] ?? []), each];
}

/** SPC-4, REQUEST SENSE: asked of a logical unit that there is not. */
const NO_UNIT: Sense = { key: SenseKey.IllegalRequest, code: BlockAsc.LogicalUnitNotSupported };

/** A SCSI disk, target and logical unit 0 in one: what it makes of a CDB, for any transport. */
export class ScsiDisk implements ScsiUnit {
  readonly block: Block;
  readonly identity: ScsiIdentity;
  readonly physicalExponent: number;
  #attention: Sense | null = null;

  /** @throws ParavaneError INVALID when a string is too long or the block sizes are no powers of two */
  constructor(options: ScsiDiskOptions, target: number) {
    const { block } = options;
    this.block = block;
    const number = String(target).padStart(3, "0");
    const serial = options.serial ?? `PARAVANE${number}`;
    const text = (name: string, value: string, most: number) => {
      if (value.length <= most && /^[ -~]*$/.test(value)) return value;
      throw new ParavaneError("INVALID", `a SCSI disk's ${name} is at most ${most} characters of ASCII`, {
        [name]: value,
      });
    };
    this.identity = {
      vendor: text("vendor", options.vendor ?? "PARAVANE", 8),
      product: text("product", options.product ?? "Virtual disk", 16),
      revision: text("revision", options.revision ?? "1.0", 4),
      serial: text("serial", serial, 20),
      naa: locallyAssigned(serial),
    };
    const exponent = Math.log2((options.physicalBlockSize ?? block.sectorSize) / block.sectorSize);
    if (!Number.isInteger(exponent) || exponent < 0 || exponent > 15 || block.sectorSize < 512) {
      throw new ParavaneError(
        "INVALID",
        `a SCSI disk cannot have blocks of ${block.sectorSize} bytes in such physical ones`,
        {
          physicalBlockSize: options.physicalBlockSize,
        },
      );
    }
    this.physicalExponent = exponent;
    this.reset(Asc.PowerOnReset);
  }

  get blockSize(): number {
    return this.block.sectorSize;
  }
  get blocks(): number {
    return this.block.size / this.block.sectorSize;
  }
  get readOnly(): boolean {
    return this.block.readOnly;
  }

  /** The next command but for the few that ask for it hears of that instead (SAM-5, Unit attention conditions). */
  reset(code: Asc | BlockAsc): void {
    this.#attention = { key: SenseKey.UnitAttention, code };
  }

  /** To be called when the block's size has changed. A reset still to be told of says more. */
  resized(): void {
    this.#attention ??= { key: SenseKey.UnitAttention, code: BlockAsc.CapacityChanged };
  }

  takeAttention(): Sense | null {
    const attention = this.#attention;
    this.#attention = null;
    return attention;
  }

  /** Code of the pending unit attention, 0 for none: all that the disk remembers between commands. */
  get attention(): number {
    return this.#attention?.code ?? 0;
  }
  set attention(code: number) {
    this.#attention = code === 0 ? null : { key: SenseKey.UnitAttention, code };
  }

  /** What a command comes to. `cdb` is 16 bytes, zero past its length. */
  begin(cdb: Uint8Array): Work {
    const found = TABLE[cdb[0]];
    const command = found?.find(({ action }) => action === undefined || action === (cdb[1] & 0x1f));
    if (this.#attention && !command?.always) return { kind: "sense", sense: this.takeAttention() as Sense };
    if (!command) return found ? illegal(Asc.InvalidFieldInCdb) : illegal(Asc.InvalidOperation);
    const decoded = command.decode(cdb);
    return "refusal" in decoded ? decoded.refusal : command.execute(this, decoded.args);
  }

  /** The same for a logical unit other than 0, which there is not (SPC-4, INQUIRY and REPORT LUNS; SAM-5). */
  beginElsewhere(cdb: Uint8Array): Work {
    if (cdb[0] === ScsiOp.Inquiry && (cdb[1] & 3) === 0) return { kind: "data", bytes: nobody(get16(cdb, 3)) };
    if (cdb[0] === ScsiOp.RequestSense && (cdb[1] & 1) === 0) return reply(senseBytes(NO_UNIT), cdb[4]);
    if (cdb[0] !== ScsiOp.ReportLuns) return illegal(BlockAsc.LogicalUnitNotSupported);
    const decoded = reportLuns.decode(cdb);
    return "refusal" in decoded ? decoded.refusal : reportLuns.execute(this, decoded.args);
  }
}

/** SPC-4, NAA Locally Assigned designator: 3h, and 60 bits of our own: FNV-1a, twice, of the serial number. */
function locallyAssigned(serial: string): number[] {
  const hash = (seed: number) => {
    let value = seed;
    for (let i = 0; i < serial.length; i++) value = Math.imul(value ^ serial.charCodeAt(i), 0x01000193);
    return value >>> 0;
  };
  const words = [hash(0x811c9dc5), hash(0x5041524e)];
  const bytes = words.flatMap((word) => [word >>> 24, (word >>> 16) & 0xff, (word >>> 8) & 0xff, word & 0xff]);
  bytes[0] = 0x30 | (bytes[0] & 0x0f);
  return bytes;
}
