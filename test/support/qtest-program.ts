import { AtaCommand, AtaControl, AtaRegister } from "../../assembly/spec/ata.ts";
import type { Random } from "./random.ts";

export type PrdEntry = readonly [address: number, count: number];

/** One thing that a guest does to a channel. Registers are AtaRegister, widths and lengths bytes. */
export type Step =
  | { do: "out"; register: number; width: 1 | 2 | 4; value: number }
  | { do: "in"; register: number; width: 1 | 2 | 4 }
  /** Reads the data port `times`. */
  | { do: "drain"; width: 1 | 2 | 4; times: number }
  /** Writes the data port `times`, each time another value. */
  | { do: "feed"; width: 1 | 2 | 4; times: number; seed: number }
  /** Writes these bytes to the data port, 16 bits at a time. */
  | { do: "packet"; bytes: readonly number[] }
  /** Reads what the byte count of a DRQ block says, 16 bits at a time; nothing without DRQ. */
  | { do: "block" }
  /** Writes the PRD table at `at`. */
  | { do: "prds"; at: number; entries: readonly PrdEntry[] }
  /** PCI command register: may the function master the bus? */
  | { do: "master"; on: boolean };

export type Program = readonly Step[];

/** Guest memory that programs use: PRD tables, and the window data moves in. */
export const Layout = { Table: 0x80000, Window: 0x100000, WindowBytes: 0x40000 } as const;

/** The value that `feed` writes the `i`th time. */
export function fed(seed: number, i: number, width: number): number {
  const value = Math.imul(seed + i, 0x9e3779b1) >>> 0;
  return width === 4 ? value : width === 2 ? value & 0xffff : value & 0xff;
}

const NAMES: Record<number, string> = {
  0: "Data",
  1: "Features/Error",
  2: "Count",
  3: "LbaLow",
  4: "LbaMid",
  5: "LbaHigh",
  6: "Device",
  7: "Command/Status",
  8: "Control/AltStatus",
  16: "BmCommand",
  18: "BmStatus",
  20: "BmTable",
};

const hex = (value: number) => `${value.toString(16)}h`;

/** A program as a person reads it, a step a line. */
export function show(program: Program): string[] {
  return program.map(showStep);
}

function showStep(step: Step): string {
  const wide = (width: number) => (width > 1 ? `.${width}` : "");
  switch (step.do) {
    case "out":
      return `out ${NAMES[step.register] ?? step.register}${wide(step.width)} ${hex(step.value)}`;
    case "in":
      return `in ${NAMES[step.register] ?? step.register}${wide(step.width)}`;
    case "drain":
      return `drain ${step.times} × ${step.width}`;
    case "feed":
      return `feed ${step.times} × ${step.width} (seed ${step.seed})`;
    case "packet":
      return `packet ${Buffer.from(step.bytes).toString("hex")}`;
    case "block":
      return "block";
    case "prds":
      return `prds at ${hex(step.at)}: ${step.entries.map(([a, c]) => `${hex(a)}+${hex(c)}`).join(" ")}`;
    case "master":
      return `bus master ${step.on ? "on" : "off"}`;
  }
}

const PIO_IN = [0x20, 0x21, 0x24, 0x29, 0xc4];
const PIO_OUT = [0x30, 0x31, 0x34, 0x39, 0xc5, 0x3c];
const DMA_IN = [0x25, 0xc8, 0xc9];
const DMA_OUT = [0x35, 0xca, 0xcb];
const EXT = new Set([0x24, 0x25, 0x27, 0x29, 0x34, 0x35, 0x39, 0x42, 0xea]);
const OTHER = [
  0x10, 0x27, 0x40, 0x41, 0x42, 0x70, 0x90, 0x91, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xb0, 0xc6, 0xe0, 0xe1, 0xe2,
  0xe3, 0xe5, 0xe6, 0xe7, 0xea, 0xec, 0xef, 0xf5, 0xf8, 0x06, 0x08, 0xa0, 0xa1,
];
const FEATURES = [0x02, 0x03, 0x05, 0x42, 0x55, 0x66, 0x67, 0x69, 0x82, 0x85, 0x96, 0x9a, 0xaa, 0xc2, 0xcc];
const SMART = [0xd0, 0xd1, 0xd2, 0xd4, 0xd5, 0xd8, 0xd9, 0xda];

/** Sizes in sectors of drive 0 and 1; 0 when absent. */
export type Sizes = readonly [number, number];

/** A CD drive beside the disks, or alone: its place, where `Sizes` has 0, and the disc's sectors of 2,048 bytes. */
export interface CdPlace {
  drive: 0 | 1;
  sectors: number;
}

/**
 * `program` for device 1 alone: it is selected throughout, and SRST and EXECUTE DIAGNOSTIC, which select device 0, are left
 * out: QEMU carries out commands on the one that is not there.
 */
export function onlySecond(program: Program): Program {
  const select: Step = { do: "out", register: AtaRegister.Device, width: 1, value: 0xf0 };
  const selectsFirst = (step: Step) =>
    step.do === "out" &&
    ((step.register === AtaRegister.Control && (step.value & 4) !== 0) ||
      (step.register === AtaRegister.Command && step.value === AtaCommand.ExecuteDiagnostic));
  const steps = program.filter((step) => !selectsFirst(step));
  const second = (step: Step): Step =>
    step.do === "out" && step.register === AtaRegister.Device ? { ...step, value: step.value | 0x10 } : step;
  return [select, ...steps.map(second)];
}

/** A random program: sensible commands often enough to get somewhere, everything else in between. */
export class Generator {
  readonly #random: Random;
  readonly #sizes: Sizes;
  #steps: Step[] = [];

  constructor(random: Random, sizes: Sizes) {
    this.#random = random;
    this.#sizes = sizes;
  }

  program(): Program {
    const r = this.#random;
    this.#steps = [];
    if (r.oneIn(16)) this.#control();
    const length = 1 + r.below(4);
    for (let i = 0; i < length; i++) this.#phrase();
    return this.#steps;
  }

  #out(register: number, value: number, width: 1 | 2 | 4 = 1): void {
    this.#steps.push({ do: "out", register, width, value: value >>> 0 });
  }

  #phrase(): void {
    const kind = this.#random.below(16);
    if (kind < 3) this.#pio(true);
    else if (kind < 6) this.#pio(false);
    else if (kind < 10) this.#dma();
    else if (kind < 13) this.#plain();
    else if (kind < 14) this.#control();
    else if (kind < 15) this.#data();
    else this.#noise();
  }

  #pio(read: boolean): void {
    const code = this.#random.pick(read ? PIO_IN : PIO_OUT);
    const count = this.#taskFile(EXT.has(code));
    this.#out(AtaRegister.Command, code);
    if (this.#random.oneIn(8)) this.#noise();
    this.#transfer(read, Math.min(count || 256, 4) * 256);
    this.#look();
  }

  #dma(): void {
    const r = this.#random;
    const read = r.oneIn(2);
    const code = r.pick(read ? DMA_IN : DMA_OUT);
    const count = this.#taskFile(EXT.has(code));
    this.#prds((count || 256) * 512);
    const start = 1 | (r.oneIn(12) !== read ? 8 : 0);
    const early = r.oneIn(4);
    if (early) this.#out(AtaRegister.BmCommand, start);
    this.#out(AtaRegister.Command, code);
    if (r.oneIn(10)) this.#noise();
    if (!early) this.#out(AtaRegister.BmCommand, start);
    this.#look();
    if (!r.oneIn(6)) this.#out(AtaRegister.BmCommand, r.oneIn(3) ? 0 : start & 8);
    if (r.oneIn(2)) this.#out(AtaRegister.BmStatus, r.pick([4, 6, 0x66, 0xff]));
    this.#look();
  }

  #plain(): void {
    const r = this.#random;
    const code = r.oneIn(24) ? r.below(256) : r.pick(OTHER);
    if (code === AtaCommand.SetFeatures) {
      this.#out(AtaRegister.Features, r.oneIn(8) ? r.below(256) : r.pick(FEATURES));
      this.#out(
        AtaRegister.Count,
        r.oneIn(4) ? r.below(256) : r.pick([0, 1, 8, 0x0c, 0x10, 0x12, 0x20, 0x22, 0x40, 0x45]),
      );
    } else if (code === 0xb0) {
      this.#out(AtaRegister.Features, r.oneIn(8) ? r.below(256) : r.pick(SMART));
      this.#out(AtaRegister.LbaMid, r.oneIn(10) ? r.below(256) : 0x4f);
      this.#out(AtaRegister.LbaHigh, r.oneIn(10) ? r.below(256) : 0xc2);
      this.#out(AtaRegister.LbaLow, r.pick([0, 1, 2, 6, 0xf1]));
      this.#out(AtaRegister.Count, r.pick([0, 1, 0xf1]));
    } else if (code === AtaCommand.SetMultiple || code === AtaCommand.InitializeParameters) {
      this.#out(AtaRegister.Count, r.pick([1, 2, 4, 8, 16, 17, 32, 63, 128, r.below(256)]));
      if (r.oneIn(2)) this.#device();
    } else if (!r.oneIn(3)) this.#taskFile(EXT.has(code));
    else if (r.oneIn(2)) this.#device();
    this.#out(AtaRegister.Command, code);
    this.#look();
    if (code === 0xec || code === 0xa1 || code === 0xb0) this.#transfer(true, 256);
    if (r.oneIn(3)) this.#highOrder();
  }

  /** Device, count and address; the count of sectors. */
  #taskFile(ext: boolean): number {
    const r = this.#random;
    const lbaMode = r.oneIn(ext ? 40 : 8) ? 0 : 0x40;
    const drive = this.#device(lbaMode);
    const size = this.#sizes[drive];
    let lba = r.pick([0, 1, r.below(64), r.below(64), size - 1 - r.below(40)]);
    if (size > 2 ** 28 && r.oneIn(3)) lba = 2 ** 28 - 8 + r.below(16);
    if (r.oneIn(60)) lba = size - 1;
    if (lba < 0) lba = 0;
    const count = r.oneIn(ext ? 800 : 80) ? 0 : r.oneIn(12) ? r.below(24) : 1 + r.below(r.oneIn(4) ? 5 : 2);
    const bytes = (shift: number) => Math.floor(lba / 2 ** shift) & 0xff;
    if (ext || r.oneIn(20)) {
      this.#out(AtaRegister.Count, r.oneIn(400) ? 1 : 0);
      this.#out(AtaRegister.LbaLow, bytes(24));
      this.#out(AtaRegister.LbaMid, bytes(32));
      this.#out(AtaRegister.LbaHigh, bytes(40));
    }
    this.#out(AtaRegister.Count, count);
    const chs = lbaMode === 0 && !r.oneIn(10);
    this.#out(AtaRegister.LbaLow, chs ? 1 + r.below(63) : bytes(0));
    this.#out(AtaRegister.LbaMid, chs ? r.below(3) : bytes(8));
    this.#out(AtaRegister.LbaHigh, chs ? 0 : bytes(16));
    return count;
  }

  /** Selects a drive: its number. Interrupts are taken before, for QEMU's are not the drive's own. */
  #device(mode = this.#random.oneIn(8) ? 0 : 0x40): number {
    const r = this.#random;
    if (!r.oneIn(24)) this.#steps.push({ do: "in", register: AtaRegister.Status, width: 1 });
    const drive = r.oneIn(3) ? 1 : 0;
    const head = mode === 0 ? r.below(4) : 0;
    this.#out(AtaRegister.Device, r.pick([0xa0, 0xa0, 0x00]) | mode | (drive << 4) | head);
    return drive;
  }

  #transfer(read: boolean, words: number): void {
    const r = this.#random;
    const width = r.oneIn(6) ? r.pick([1, 4] as const) : 2;
    const exact = Math.ceil((words * 2) / Math.max(2, width));
    const times = r.oneIn(4) ? 1 + r.below(exact) : r.oneIn(5) ? exact + r.below(5) : exact;
    this.#move(read !== r.oneIn(40), width, times);
    if (r.oneIn(4)) {
      this.#look();
      this.#move(read, 2, exact);
    }
  }

  #move(read: boolean, width: 1 | 2 | 4, times: number): void {
    if (read) this.#steps.push({ do: "drain", width, times });
    else this.#steps.push({ do: "feed", width, times, seed: this.#random.below(0x10000) });
  }

  #data(): void {
    const r = this.#random;
    this.#move(r.oneIn(2), r.pick([1, 2, 4] as const), 1 + r.below(r.oneIn(3) ? 600 : 6));
  }

  #control(): void {
    const r = this.#random;
    const bits = r.pick([0, 2, 4, 6, 8, 0x80, 0x84, 0x0a, r.below(256)]);
    this.#out(AtaRegister.Control, bits);
    if (bits & AtaControl.SoftwareReset && !r.oneIn(60)) this.#out(AtaRegister.Control, bits & ~4);
    if (!r.oneIn(3)) this.#out(AtaRegister.Control, 0);
    if (bits & AtaControl.SoftwareReset && !r.oneIn(4)) {
      this.#steps.push({ do: "in", register: AtaRegister.Status, width: 1 });
      this.#out(AtaRegister.BmStatus, 4);
    }
  }

  #highOrder(): void {
    this.#out(AtaRegister.Control, AtaControl.HighOrder);
    if (!this.#random.oneIn(3)) this.#out(AtaRegister.Control, 0);
  }

  #look(): void {
    if (this.#random.oneIn(2)) this.#steps.push({ do: "in", register: AtaRegister.Status, width: 1 });
  }

  #noise(): void {
    const r = this.#random;
    switch (r.below(9)) {
      case 0:
        this.#out(AtaRegister.Features + r.below(6), r.below(256));
        break;
      case 1:
        this.#out(AtaRegister.BmCommand, r.pick([0, 1, 8, 9, r.below(256)]));
        break;
      case 2:
        this.#out(AtaRegister.BmStatus, r.below(256));
        break;
      case 3: {
        const width = r.pick([1, 2] as const);
        this.#out(r.pick(width === 1 ? [20, 21] : [20]), r.below(width === 1 ? 256 : 65536), width);
        break;
      }
      case 4:
        if (r.oneIn(2)) this.#steps.push({ do: "in", register: 1 + r.below(6), width: 1 });
        else this.#steps.push({ do: "in", register: r.pick([16, 18, 20]), width: r.pick([1, 2] as const) });
        break;
      case 5:
        this.#steps.push({ do: "master", on: r.oneIn(2) });
        break;
      case 6:
        this.#device();
        break;
      case 7:
        this.#highOrder();
        break;
      default:
        this.#prds(512 * (1 + r.below(4)));
    }
  }

  #prds(need: number): void {
    this.#steps.push(...prdTable(this.#random, need));
  }
}

/** A table for `need` bytes: as long, or, unless `exact`, shorter or longer; whole, in pieces, unaligned. */
export function prdTable(r: Random, need: number, exact = false): Step[] {
  const total = exact ? need : r.oneIn(5) ? r.below(need) & ~1 : r.oneIn(5) ? need + 2 * r.below(2000) : need;
  const entries: PrdEntry[] = [];
  let left = total;
  while (left > 0 && entries.length < 24) {
    const most = Math.min(left, 65536);
    let length = r.oneIn(2) ? most : r.oneIn(2) ? Math.min(most, 512 * (1 + r.below(4))) : 2 + (r.below(most) & ~1);
    if (length > most) length = most;
    const room = Layout.WindowBytes - 65536;
    const address = Layout.Window + (r.oneIn(8) ? r.below(room) & ~1 : r.below(room) & ~511);
    left -= length;
    const last = left <= 0 || entries.length === 23;
    const count = (length === 65536 ? 0 : length) | (r.oneIn(30) ? 1 : 0);
    entries.push([address, ((last && !r.oneIn(40) ? 0x80000000 : 0) | count) >>> 0]);
  }
  if (entries.length === 0) entries.push([Layout.Window, 0x80000002]);
  // What stands behind a table without an end.
  entries.push([Layout.Window, 0x80000200]);
  const at = Layout.Table + (r.oneIn(8) ? 0x1000 - 8 * (1 + r.below(4)) : 0);
  const table: Step = { do: "prds", at, entries };
  if (r.oneIn(20)) return [table];
  const value = (at | (r.oneIn(20) ? r.below(4) : 0)) >>> 0;
  return [table, { do: "out", register: AtaRegister.BmTable, width: 4, value }];
}
