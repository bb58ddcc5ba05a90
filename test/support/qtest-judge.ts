import { AtaCommand, AtaStatus } from "../../assembly/spec/ata.ts";
import { Op } from "../../src/core/block.ts";
import { CD_FORGET, CD_SETTINGS, cdSettings } from "./qtest-cd-program.ts";
import { At, lastCommand, leavesMemory, POWER } from "./qtest-history.ts";
import { knownDifference } from "./qtest-known.ts";
import { type CdPlace, Layout, onlySecond, type Program, type Sizes, show } from "./qtest-program.ts";
import { Ours, Theirs } from "./qtest-sides.ts";
import { SNAPSHOT, type Trace } from "./qtest-trace.ts";
import { DataWords } from "./qtest-words.ts";

export interface Difference {
  /** Index of the step after which, or in which, the sides differ; the program's length for the disks at its end. */
  step: number;
  what: string;
  ours: number | string;
  theirs: number | string;
  /** Name of the deliberate difference that it is. */
  known?: string;
}

const hex = (value: number | string) => (typeof value === "number" ? `${value.toString(16)}h` : value);

export function explain(program: Program, difference: Difference): string {
  const { step, what, ours, theirs } = difference;
  const lines = show(program).map((line, i) => `${i === step ? ">" : " "} ${line}`);
  return `${lines.join("\n")}\n  ${what}: ours ${hex(ours)}, QEMU ${hex(theirs)}`;
}

/**
 * What QEMU does at SRST and the specification does not: its reset has ended while SRST is still set, and disks ask for
 * an interrupt at its end (ATA/ATAPI-6 §9.2 has none). Until the guest has withdrawn that, it is not looked at.
 */
class AfterReset {
  /** QEMU's reset has ended, ours has not. */
  held = false;
  #line = false;
  #busMaster = false;
  #power = false;

  step(step: Program[number]): void {
    if (step.do === "in" && step.register === 7) this.#line = false;
    if (step.do !== "out") return;
    if (step.register === 8) {
      this.held = (step.value & 4) !== 0;
      if (this.held) {
        this.#line = true;
        this.#busMaster = true;
      }
    }
    if (step.register === 7) {
      this.#line = false;
      if (POWER.has(step.value)) this.#power = true;
    }
    if (step.register === 18 && step.value & 4) this.#busMaster = false;
  }

  /** Bits of what an `in` reads that are not compared. */
  valueMask(step: Program[number]): number {
    if (step.do !== "in") return 0;
    if (step.register === 7 || step.register === 8) return this.mask(0);
    return step.register === 18 ? this.mask(8) : 0;
  }

  /** Bits of snapshot register `index` that are not compared. */
  mask(index: number): number {
    if (index === SNAPSHOT.length) return this.#line ? 1 : 0;
    if (index === 0) return this.#power ? 0x10 : 0;
    return index === 8 && this.#busMaster ? 4 : 0;
  }
}

/**
 * Is device 1 selected, and absent? §9.16.1: device 0 answers with its own registers; QEMU keeps a set for the drive that
 * is not there. They are written alike, and nothing but the signature and results of device 0 tells them apart.
 */
function alone(ours: Trace, theirs: Trace, absent: boolean): boolean {
  return absent && ours.registers[0] === 0 && theirs.registers[0] === 0 && (theirs.registers[6] & 0x10) !== 0;
}

/**
 * Does a packet drive wait for the bus master to be started? ATA/ATAPI-6 §9.7 has BSY or DRQ set meanwhile; ours sets DRQ, as
 * disks do, QEMU's both.
 */
function waitsForMaster(program: Program, step: number, ours: readonly Trace[], theirs: Trace): boolean {
  const { registers } = ours[step];
  return (
    registers[At.Status] === 0x58 &&
    theirs.registers[At.Status] === 0xd8 &&
    (registers[At.BmStatus] & 1) === 0 &&
    lastCommand(program, step, ours) === AtaCommand.Packet
  );
}

/** Does [address, address + length) meet one of `regions`? */
const within = (regions: Trace["memory"], address: number, length: number) =>
  regions.some((region) => address < region.address + region.bytes.length && region.address < address + length);

/** First place where two runs of one program differ. */
function compare(
  program: Program,
  ours: readonly Trace[],
  theirs: readonly Trace[],
  absent: boolean,
): Difference | null {
  const reset = new AfterReset();
  const words = new DataWords();
  /** Memory that holds what may differ. */
  const stale: Trace["memory"] = [];
  for (let step = 0; step < Math.min(ours.length, theirs.length); step++) {
    const [a, b] = [ours[step], theirs[step]];
    reset.step(program[step]);
    const each = program[step];
    const before = step === 0 ? 0 : ours[step - 1].registers[0];
    if (reset.held) {
      const next = program[step + 1];
      if (next === undefined || (next.do === "out" && next.register === 8)) {
        words.step(each, before, 0);
        continue;
      }
    }
    const loose = each.do === "in" && each.register <= 6 && alone(a, b, absent) ? -1 : reset.valueMask(each);
    const waits = waitsForMaster(program, step, ours, b);
    const looseBusy = waits && each.do === "in" && (each.register === 7 || each.register === 8) ? AtaStatus.Busy : 0;
    const value = a.values.findIndex(
      (read, i) => ((read ^ b.values[i]) & ~(loose | looseBusy | words.mask(each, i))) !== 0,
    );
    words.step(each, before, a.registers[0], a.values.length);
    if (value >= 0) return { step, what: `value ${value}`, ours: a.values[value], theirs: b.values[value] };
    const register = a.registers.findIndex(
      (found, i) =>
        ((found ^ b.registers[i]) & ~(reset.mask(i) | (waits && i === 0 ? AtaStatus.Busy : 0))) !== 0 &&
        !(alone(a, b, absent) && i >= 1 && i <= 6),
    );
    if (register >= 0) {
      const what = SNAPSHOT[register]?.[2] ?? "interrupt line";
      return { step, what, ours: a.registers[register], theirs: b.registers[register] };
    }
    if (words.loose) stale.push(...a.memory);
    const memory = a.memory.findIndex(
      ({ address, bytes }, i) =>
        Buffer.compare(bytes, b.memory[i].bytes) !== 0 && !within(stale, address, bytes.length),
    );
    if (memory >= 0) {
      const { address, bytes } = a.memory[memory];
      const other = b.memory[memory].bytes;
      const at = bytes.findIndex((byte, j) => byte !== other[j]);
      return { step, what: `memory ${(address + at).toString(16)}h`, ours: bytes[at], theirs: other[at] };
    }
  }
  return null;
}

/** Is memory left that differs in what may differ? */
function staleMemory(ours: readonly Trace[], theirs: readonly Trace[]): boolean {
  return theirs.some(({ memory }, i) =>
    memory.some(({ bytes }, j) => Buffer.compare(bytes, ours[i].memory[j].bytes) !== 0),
  );
}

/** SRST, after which both say that their drives are well: after the reset wire QEMU's Error register is 0, not 1. */
const DMA_COMMANDS = new Set([0x25, 0xc8, 0xc9, 0x35, 0xca, 0xcb, 0x06, 0xa0]);

/** Ends a DMA command that QEMU's bus master remembers over its reset, by carrying out another. */
const FORGET: Program = [
  { do: "prds", at: Layout.Table, entries: [[Layout.Window, 0x80000200]] },
  { do: "out", register: 20, width: 4, value: Layout.Table },
  { do: "out", register: 2, width: 1, value: 1 },
  { do: "out", register: 3, width: 1, value: 1 },
  { do: "out", register: 7, width: 1, value: 0xc8 },
  { do: "out", register: 16, width: 1, value: 9 },
];

const PULSE: Program = [
  { do: "out", register: 8, width: 1, value: 4 },
  { do: "out", register: 8, width: 1, value: 0 },
  { do: "in", register: 7, width: 1 },
  { do: "out", register: 18, width: 1, value: 4 },
];

/** Commands that leave settings which a machine reset does not put back, on one side or the other. */
const SETTINGS = new Set([0xef, 0xb0, 0x91, 0xc6, 0xf5, 0xf9, 0xb1, 0x37]);

/** What we have and QEMU has not, and what of it no machine reset undoes. */
const UNIQUE = new Set([0x45, 0x37, 0xb1, 0xe4, 0xe8, 0xe9, 0xeb, 0xf1, 0xf2, 0xf3, 0xf4, 0xf6, 0xf9]);
const unique = (program: Program) =>
  program.some((step) => step.do === "out" && step.register === 7 && UNIQUE.has(step.value));

/** Programs that put the settings of both drives into a known state. */
function settings(sizes: Sizes): Program {
  const steps: Program[number][] = [];
  const out = (register: number, value: number) => steps.push({ do: "out", register, width: 1, value });
  sizes.forEach((size, drive) => {
    if (size === 0) return;
    const select = 0xe0 | (drive << 4);
    const features = (feature: number, count: number) => {
      out(6, select);
      out(1, feature);
      out(2, count);
      out(7, 0xef);
    };
    features(0x03, 0x45);
    features(0x02, 0);
    features(0xaa, 0);
    out(6, select | 0x0f);
    out(2, 63);
    out(7, 0x91);
    out(6, select);
    out(2, 16);
    out(7, 0xc6);
    out(1, 0xd8);
    out(4, 0x4f);
    out(5, 0xc2);
    out(7, 0xb0);
  });
  return steps;
}

/** The two controllers side by side. */
export class Judge {
  readonly sizes: Sizes;
  theirs: Theirs;
  /** How often QEMU has ended by itself. */
  crashes = 0;
  readonly #start: () => Theirs;
  /** Programs and steps run so far, shrinking included. */
  programs = 0;
  steps = 0;
  #ours: Ours;
  readonly #settings: Program;
  readonly #forgetProgram: Program;
  readonly #cd: CdPlace | null;
  /** No device 1. */
  readonly #absent: boolean;
  /** How the sides stand to each other after the last program. */
  #state: "clean" | "ended" | "apart" = "apart";
  #changed = true;
  #forget = true;

  constructor(channel: 0 | 1, sizes: Sizes, seconds: number, cd: CdPlace | null = null) {
    this.sizes = sizes;
    this.#cd = cd;
    this.#absent = sizes[1] === 0 && cd?.drive !== 1;
    this.#ours = new Ours(channel, sizes, cd);
    const until = performance.now() / 1000 + seconds;
    this.#start = () => new Theirs(channel, sizes, Math.max(1, Math.ceil(until - performance.now() / 1000)), cd);
    this.theirs = this.#start();
    this.#settings = [...settings(sizes), ...(cd ? cdSettings(cd) : [])];
    this.#forgetProgram = cd?.drive === 0 ? CD_FORGET : sizes[0] === 0 ? onlySecond(FORGET) : FORGET;
  }

  close(): void {
    this.theirs.close();
  }

  /**
   * Runs a program from the same state on both. QEMU 7.2 has an assertion of its own that programs run into
   * (ide_cancel_dma_sync): it is started anew then, and what the program does is not known.
   */
  run(program: Program): Difference | null {
    try {
      return this.#run(program);
    } catch (error) {
      if (!(error instanceof Error && /Assertion .* failed/.test(error.message))) throw error;
      this.crashes++;
      this.theirs.close();
      this.theirs = this.#start();
      this.#state = "apart";
      const known = "QEMU ends by an assertion of its own";
      return { step: 0, what: "process", ours: "answers", theirs: "has ended", known };
    }
  }

  #run(program: Program): Difference | null {
    this.programs++;
    this.steps += program.length;
    this.#prepare();
    this.#changed = program.some((step) =>
      step.do === "packet"
        ? CD_SETTINGS.has(step.bytes[0])
        : step.do === "out" && step.register === 7 && SETTINGS.has(step.value),
    );
    this.#forget = program.some((step) => step.do === "out" && step.register === 7 && DMA_COMMANDS.has(step.value));
    const ours = this.#ours.run(program);
    const theirs = this.theirs.run(
      program,
      ours,
      (traces) => compare(program, ours.traces, traces, this.#absent) !== null,
    );
    const difference = compare(program, ours.traces, theirs, this.#absent) ?? this.#disks(program.length);
    this.#state = staleMemory(ours.traces, theirs) || leavesMemory(program, ours.traces) ? "ended" : "clean";
    if (difference === null) return null;
    const { step, what } = difference;
    if (/^(drive|memory)/.test(what) && staleMemory(ours.traces, theirs.slice(0, step))) {
      this.#state = "apart";
      return { ...difference, known: "data that may differ, moved on" };
    }
    const known = knownDifference({ program, step, what, ours: ours.traces, theirs, cd: this.#cd?.drive });
    this.#state = known === undefined || known.apart || unique(program) ? "apart" : "ended";
    if (known !== undefined) difference.known = known.name;
    return difference;
  }

  #prepare(): void {
    // What is under way there ends before its disks are changed.
    if (this.#state !== "clean") this.theirs.reset();
    if (this.#state === "apart") {
      // Ours starts anew, theirs gets its memory and disks.
      this.#ours = new Ours(this.#ours.channel, this.sizes, this.#cd);
      this.theirs.restore();
      this.#clearMemory();
      this.#changed = true;
    } else if (this.#state === "ended") {
      // Ours has run the program to its end, theirs has stopped where they differ, and may have written what ours has not.
      this.#ours.restore();
      this.theirs.restore();
      this.#clearMemory();
    }
    if (this.#changed) {
      this.#ours.reset();
      this.theirs.reset();
      this.theirs.run(this.#settings, this.#ours.run(this.#settings));
    }
    if (this.#forget) {
      this.#ours.reset();
      this.theirs.reset();
      this.theirs.run(this.#forgetProgram, this.#ours.run(this.#forgetProgram));
    }
    this.#ours.reset();
    this.theirs.reset();
    this.theirs.run(PULSE, this.#ours.run(PULSE));
  }

  /** Memory as before any program, where DMA may have written. */
  #clearMemory(): void {
    for (const [at, length] of [
      [0, 0x10000],
      [Layout.Table, 0x2000],
      [Layout.Window, Layout.WindowBytes],
    ]) {
      this.#ours.machine.guest.ram.bytes(at, length).fill(0);
      this.theirs.qtest.command(`memset 0x${at.toString(16)} 0x${length.toString(16)} 0x0`);
    }
  }

  /** What the last program has written: drive, offset and length in bytes. */
  #written(): [drive: number, offset: number, length: number][] {
    return this.#ours.blocks.flatMap((block, drive) =>
      (block?.log ?? [])
        .filter(({ op, offset, length }) => op !== Op.Read && op !== Op.Flush && offset + length <= (block?.size ?? 0))
        .map(({ offset, length }): [number, number, number] => [drive, offset, length]),
    );
  }

  /** What was written must be the same. */
  #disks(step: number): Difference | null {
    for (const [drive, offset, length] of this.#written()) {
      const [a, b] = [this.#ours.blocks[drive]?.peek(offset, length), this.theirs.peek(drive, offset, length)];
      if (a === undefined || Buffer.compare(a, b) === 0) continue;
      const at = a.findIndex((byte, i) => byte !== b[i]);
      return { step, what: `drive ${drive}, byte ${offset + at}`, ours: a[at], theirs: b[at] };
    }
    return null;
  }

  /** Compares what stands on the disks where programs write, whoever has written it. @throws where they differ */
  expectSameDisks(): void {
    // A program that ended at a listed difference has left them as they are until the next one begins.
    if (this.#state !== "clean") return;
    for (const [drive, block] of this.#ours.blocks.entries()) {
      const length = Math.min(block?.size ?? 0, 4096 * 512);
      if (block === null || length === 0) continue;
      const [a, b] = [block.peek(0, length), this.theirs.peek(drive, 0, length)];
      const at = Buffer.compare(a, b) === 0 ? -1 : a.findIndex((byte, i) => byte !== b[i]);
      if (at >= 0) throw new Error(`drive ${drive}, byte ${at}: ours ${a[at]}, QEMU ${b[at]}`);
    }
  }

  /** The smallest program found that still shows a difference of the same kind. */
  shrink(program: Program, first: Difference): { program: Program; difference: Difference } {
    let best = { program: program.slice(0, first.step + 1), difference: first };
    const kind = (what: string) => what.replace(/\d.*/, "");
    const attempt = (candidate: Program): boolean => {
      const difference = this.run(candidate);
      if (difference === null || difference.known !== undefined || kind(difference.what) !== kind(first.what))
        return false;
      best = { program: candidate.slice(0, difference.step + 1), difference };
      return true;
    };
    for (let budget = 400, size = Math.ceil(best.program.length / 2); budget > 0 && size >= 1; ) {
      let any = false;
      for (let at = 0; at < best.program.length && budget > 0; budget--) {
        if (attempt([...best.program.slice(0, at), ...best.program.slice(at + size)])) any = true;
        else at += size;
      }
      if (!any || size > best.program.length) size = Math.floor(size / 2);
    }
    return best;
  }
}
