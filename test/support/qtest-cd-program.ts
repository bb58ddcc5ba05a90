import { AtaRegister } from "../../assembly/spec/ata.ts";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { be, cdb } from "./cd.ts";
import { type CdPlace, Generator, Layout, type Program, prdTable, type Sizes, type Step } from "./qtest-program.ts";
import type { Random } from "./random.ts";

const out = (register: number, value: number, width: 1 | 2 | 4 = 1): Step => ({ do: "out", register, width, value });
const STATUS: Step = { do: "in", register: AtaRegister.Status, width: 1 };

const SRST: Step[] = [out(AtaRegister.Control, 4), out(AtaRegister.Control, 0), STATUS, out(AtaRegister.BmStatus, 4)];

/** PACKET without what it is about: what comes next would be a packet that nobody has thought of. */
const isPacket = (step: Step) => step.do === "out" && step.register === AtaRegister.Command && step.value === 0xa0;

/** The register writes and the packet of one command, `limit` bytes to a DRQ block. */
function command(drive: 0 | 1, bytes: Uint8Array, limit: number, features = 0): Step[] {
  return [
    STATUS,
    out(AtaRegister.Device, 0xa0 | (drive << 4)),
    out(AtaRegister.Features, features),
    out(AtaRegister.LbaMid, limit & 0xff),
    out(AtaRegister.LbaHigh, limit >> 8),
    out(AtaRegister.Command, 0xa0),
    { do: "packet", bytes: [...bytes] },
  ];
}

/** Commands that leave what no machine reset puts back. */
export const CD_SETTINGS: ReadonlySet<number> = new Set([PacketOp.StartStopUnit, PacketOp.PreventAllow]);

/** Tray closed, not locked, and nothing left to tell of what was done to it. */
export function cdSettings({ drive }: CdPlace): Program {
  const tray = [cdb(PacketOp.PreventAllow), cdb(PacketOp.StartStopUnit, 0, 0, 0, 3)];
  const events = cdb(PacketOp.GetEventStatus, 1, 0, 0, 0x10, 0, 0, 0, 8);
  return [
    ...tray.flatMap((bytes) => [...command(drive, bytes, 2048), STATUS]),
    // One event an answer: the disc has gone, the disc has come.
    ...[events, events].flatMap((bytes): Step[] => [...command(drive, bytes, 2048), { do: "block" }, STATUS]),
  ];
}

/** Ends a DMA command that QEMU's bus master remembers over its reset, by carrying out another: drive 0 is the CD. */
export const CD_FORGET: Program = [
  { do: "prds", at: Layout.Table, entries: [[Layout.Window, 0x80000800]] },
  out(AtaRegister.BmTable, Layout.Table, 4),
  ...command(0, cdb(PacketOp.Read10, 0, 0, 0, 0, 0, 0, 0, 1), 2048, 1),
  out(AtaRegister.BmCommand, 9),
];

/** A random packet that both drives know, with arguments that mean something, or nearly; and how many bytes it moves. */
function packet(r: Random, count: number, reading = 2): [bytes: Uint8Array, length: number] {
  const at = r.oneIn(12) ? r.pick([count - 1, count, count + 1, 0x7fffffff, 0x80000000]) : r.below(count - 6);
  const lba = be(at, 4);
  const blocks = r.oneIn(12) ? 0 : 1 + r.below(r.oneIn(4) ? 5 : 2);
  const size = r.pick([0, 2, 4, 8, 12, 20, 36, 254]);
  const make: (() => [number[], number])[] = [
    () => [[PacketOp.TestUnitReady], 0],
    () => [[PacketOp.RequestSense, 0, 0, 0, r.pick([18, 18, 8, 254])], 18],
    () => [[PacketOp.ReadCapacity], 8],
    () => [[PacketOp.Seek10, 0, ...lba], 0],
    () => [
      [PacketOp.ReadToc, r.below(2) * 2, 0, 0, 0, 0, r.pick([0, 1, 2, 0xaa]), ...be(size, 2), r.below(3) << 6],
      size,
    ],
    () => [[PacketOp.ReadDiscInformation, r.oneIn(6) ? 1 : 0, 0, 0, 0, 0, 0, ...be(size, 2)], size],
    () => [[PacketOp.SetCdSpeed, 0, 0xff, 0xff], 0],
    () => [[PacketOp.MechanismStatus, 0, 0, 0, 0, 0, 0, 0, ...be(size, 2)], 8],
    () => [
      [
        PacketOp.ModeSense10,
        0,
        r.pick([0x01, 0x0e, 0x2a, 0x2a, 0x2a, 0xc1, 0x02, 0x3e, 0x6a]),
        0,
        0,
        0,
        0,
        ...be(size, 2),
      ],
      size,
    ],
    () => [[PacketOp.GetEventStatus, r.oneIn(8) ? 0 : 1, 0, 0, r.pick([0x10, 0x10, 0x80]), 0, 0, ...be(size, 2)], size],
    () => [[PacketOp.ReadDiscStructure, 0, 0, 0, 0, 0, 0, r.pick([0, 1, 4, 0x80]), ...be(size, 2)], size],
    () => [[PacketOp.GetConfiguration, r.pick([0, 1, 2]), 0, 0, 0, 0, 0, ...be(size, 2)], size],
    () => [[PacketOp.Inquiry, r.oneIn(8) ? 1 : 0, 0, 0, size & 0xff], size],
    () => [[r.pick([0x01, 0x08, 0x2a, 0x33, 0x5c, 0xa1, 0xb6, 0xff])], 0],
  ];
  const reads: (() => [number[], number])[] = [
    () => [[PacketOp.Read10, 0, ...lba, 0, ...be(blocks, 2)], blocks * 2048],
    () => [[PacketOp.Read12, 0, ...lba, ...be(blocks, 4)], blocks * 2048],
    () => {
      const flags = r.pick([0x10, 0x10, 0xf8, 0]);
      return [[PacketOp.ReadCd, 0, ...lba, ...be(blocks, 3), flags], blocks * (flags === 0xf8 ? 2352 : 2048)];
    },
  ];
  if (r.oneIn(24)) {
    const tray = r.pick([
      [PacketOp.StartStopUnit, 0, 0, 0, r.below(4)],
      [PacketOp.PreventAllow, 0, 0, 0, r.below(2)],
    ]);
    return [cdb(...tray), 0];
  }
  const [bytes, length] = r.pick(r.oneIn(reading) ? make : reads)();
  return [cdb(...bytes), length];
}

/** Random programs for a channel with a CD drive: packet commands, and now and then what the other generator makes. */
export class CdGenerator {
  readonly #random: Random;
  readonly #sizes: Sizes;
  readonly #cd: CdPlace;

  constructor(random: Random, sizes: Sizes, cd: CdPlace) {
    this.#random = random;
    this.#sizes = sizes;
    this.#cd = cd;
  }

  program(): Program {
    const r = this.#random;
    const steps: Step[] = [];
    const length = 1 + r.below(4);
    for (let i = 0; i < length; i++) {
      if (r.oneIn(6)) steps.push(...new Generator(r, this.#sizes).program().filter((step) => !isPacket(step)));
      else if (r.oneIn(10)) steps.push(...this.#plain());
      else steps.push(...(r.oneIn(3) ? this.#dma() : this.#pio()));
    }
    return steps;
  }

  #limit(): number {
    const r = this.#random;
    return r.oneIn(16)
      ? r.below(65536)
      : r.pick([2048, 2048, 0xfffe, 0xffff, 512, 1001, 4096, 7, 2, r.oneIn(8) ? 0 : 8]);
  }

  #pio(): Step[] {
    const r = this.#random;
    const [bytes, length] = packet(r, this.#cd.sectors);
    const limit = this.#limit();
    const steps = command(this.#cd.drive, bytes, limit);
    this.#disturb(steps);
    const blocks = Math.min(8, Math.ceil(length / Math.max(2, limit)) + (r.oneIn(8) ? 1 : 0));
    const taken = r.oneIn(6) ? r.below(blocks + 1) : blocks;
    for (let i = 0; i < taken; i++) {
      this.#look(steps);
      if (r.oneIn(40)) this.#between(steps);
      if (r.oneIn(16)) steps.push({ do: "drain", width: r.pick([1, 2, 4] as const), times: 1 + r.below(1200) });
      else steps.push({ do: "block" });
    }
    this.#look(steps);
    this.#sense(steps);
    return steps;
  }

  #dma(): Step[] {
    const r = this.#random;
    const [bytes, length] = packet(r, this.#cd.sectors, 4);
    const steps: Step[] = [...prdTable(r, Math.max(2, length), !r.oneIn(6))];
    const start = 1 | (r.oneIn(12) ? 0 : 8);
    const early = r.oneIn(3);
    if (early) steps.push(out(AtaRegister.BmCommand, start));
    steps.push(...command(this.#cd.drive, bytes, this.#limit(), r.oneIn(30) ? 3 : 1));
    this.#disturb(steps);
    this.#look(steps);
    if (r.oneIn(24)) this.#between(steps);
    if (!early) steps.push(out(AtaRegister.BmCommand, start));
    this.#look(steps);
    if (!r.oneIn(6)) steps.push(out(AtaRegister.BmCommand, r.oneIn(3) ? 0 : start & 8));
    if (r.oneIn(2)) steps.push(out(AtaRegister.BmStatus, r.pick([4, 6, 0x66])));
    this.#sense(steps);
    return steps;
  }

  /** Now and then the packet is not written as it should be: in part, by 32 bits, or after a look at the registers. */
  #disturb(steps: Step[]): void {
    const r = this.#random;
    const last = steps.at(-1) as Step & { do: "packet" };
    if (r.oneIn(30)) {
      const part = 2 * (1 + r.below(5));
      const rest: Step = { do: "packet", bytes: last.bytes.slice(part) };
      const next = r.pick([[rest], [rest], [STATUS, rest], [STATUS, rest], [out(AtaRegister.Command, 0x08)], SRST]);
      steps.splice(-1, 1, { do: "packet", bytes: last.bytes.slice(0, part) }, ...next);
      return;
    }
    if (r.oneIn(6)) steps.splice(-1, 0, STATUS);
  }

  /** What comes at a bad time. */
  #between(steps: Step[]): void {
    const r = this.#random;
    switch (r.below(6)) {
      case 0:
        if (r.oneIn(3)) steps.push(out(AtaRegister.Command, 0x08));
        break;
      case 1:
        steps.push(...SRST);
        break;
      case 2:
        steps.push(out(AtaRegister.Command, r.pick([0xa0, 0xa1, 0xec, 0xe1, 0x90])));
        break;
      case 3:
        steps.push(out(AtaRegister.Control, 2), out(AtaRegister.Control, 0));
        break;
      case 4:
        steps.push({ do: "master", on: r.oneIn(2) });
        break;
      default:
        steps.push(out(AtaRegister.LbaMid + r.below(2), r.below(256)));
    }
  }

  #plain(): Step[] {
    const r = this.#random;
    const select = out(AtaRegister.Device, 0xa0 | (this.#cd.drive << 4));
    // Seldom what differs on purpose: a program ends there.
    const code = r.pick(r.oneIn(5) ? [0x08, 0x90, 0xe5, 0xe0, 0xe1, 0xef] : [0xa1, 0xa1, 0xec, 0x00, 0x20, 0xc8, 0x91]);
    const steps = [STATUS, select, out(AtaRegister.Command, code)];
    this.#look(steps);
    if (code === 0xa1) steps.push({ do: "drain", width: 2, times: 256 });
    return steps;
  }

  #look(steps: Step[]): void {
    if (this.#random.oneIn(2)) steps.push(STATUS);
  }

  #sense(steps: Step[]): void {
    if (this.#random.oneIn(2)) return;
    steps.push(...command(this.#cd.drive, cdb(PacketOp.RequestSense, 0, 0, 0, 18), 0xfffe));
    steps.push({ do: "block" });
  }
}
