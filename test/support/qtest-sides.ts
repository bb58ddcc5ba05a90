import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AtaReason, AtaRegister, AtaStatus, BmStatus } from "../../assembly/spec/ata.ts";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { PciCommand, PciConfig } from "../../assembly/spec/pci.ts";
import { Op } from "../../src/core/block.ts";
import { attachIde, type IdeDrive } from "../../src/host/device/ide/controller.ts";
import { cdFromBlock } from "../../src/host/media/image.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { cdb } from "./cd.ts";
import { Qtest } from "./qtest.ts";
import { type CdPlace, fed, type PrdEntry, type Program, type Sizes, type Step } from "./qtest-program.ts";
import { portOf, SNAPSHOT, type Trace } from "./qtest-trace.ts";
import { SparseBlock } from "./sparse-block.ts";

/** Sectors at the start and the end of each disk that hold a pattern, and that writes stay close to. */
const HOT = 160;
const LINES = [14, 15];
/** Our machine's memory in bytes; QEMU's is more, and has no RAM from VIDEO to 1 MiB. */
const MEMORY = 2 << 20;
const VIDEO = 0xa0000;

/** Steps that ours took, with where the other side must let I/O end: after that many accesses of the step. */
export interface OurRun {
  traces: Trace[];
  pauses: Pause[][];
}

interface Pause {
  access: number;
  /** Ours has come to rest with these: QEMU may wait for the guest, too. */
  status: number;
  bmStatus: number;
}

/** May QEMU go on after such a write where ours has ended? */
function mayWait(register: number, value: number): boolean {
  if (register === AtaRegister.Command) return !IMMEDIATE.has(value);
  return register === AtaRegister.BmCommand ? (value & 1) !== 0 : register === AtaRegister.Control && (value & 4) !== 0;
}

/** Commands that QEMU carries out while they are written. */
const IMMEDIATE = new Set([
  0x10, 0x27, 0x30, 0x31, 0x34, 0x39, 0x3c, 0x40, 0x41, 0x42, 0x70, 0x91, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0xb0,
  0xc5, 0xc6, 0xe0, 0xe1, 0xe2, 0xe3, 0xe5, 0xe6, 0xec, 0xf5, 0xf8,
]);

/** What a sector holds before any program. */
function original(drive: number, lba: number): Uint8Array {
  const bytes = new Uint8Array(512);
  for (let i = 0; i < 512; i++) bytes[i] = (i * 7 + lba * 13 + drive * 101 + (i >>> 8)) & 0xff;
  return bytes;
}

/** What the disc holds, sector by sector of 2,048 bytes. */
function discSector(lba: number): Uint8Array {
  const bytes = new Uint8Array(2048);
  for (let i = 0; i < bytes.length; i++) bytes[i] = (lba * 7 + i * 13 + (i >> 8)) & 0xff;
  return bytes;
}

function hotSectors(size: number): number[] {
  const all = new Set<number>();
  for (let i = 0; i < Math.min(HOT, size); i++) all.add(i).add(size - 1 - i);
  if (size > 2 ** 28) for (let i = -63; i < 64; i++) all.add(2 ** 28 + i);
  return [...all];
}

/** Our controller on a machine of its own: one channel in use. */
export class Ours {
  readonly channel: 0 | 1;
  readonly sizes: Sizes;
  readonly blocks: (SparseBlock | null)[];
  readonly machine: LabMachine;
  #entries: readonly PrdEntry[] = [];
  readonly #cd: CdPlace | null;
  readonly #disc: SparseBlock | null = null;

  constructor(channel: 0 | 1, sizes: Sizes, cd: CdPlace | null = null) {
    this.channel = channel;
    this.sizes = sizes;
    this.#cd = cd;
    this.machine = new LabMachine({ memory: MEMORY });
    this.blocks = sizes.map((size) => (size === 0 ? null : new SparseBlock(size * 512)));
    this.restore();
    const drives: (IdeDrive | null)[] = this.blocks.map((block, i) =>
      block === null ? null : { block, model: "QEMU HARDDISK", serial: `SERIAL${i}`, firmware: "1.0" },
    );
    if (cd) {
      this.#disc = new SparseBlock(cd.sectors * 2048);
      for (let lba = 0; lba < cd.sectors; lba++) this.#disc.poke(lba * 2048, discSector(lba));
      const identity = { vendor: "QEMU", product: "QEMU DVD-ROM", revision: "1.0", serial: "SERIALCD" };
      drives[cd.drive] = { cd: cdFromBlock(this.#disc), ...identity };
    }
    attachIde(this.machine, { drives: channel === 0 ? [drives] : [[], drives], slot: 1 });
  }

  /** Disks as before any program. */
  restore(): void {
    for (const [drive, block] of this.blocks.entries()) {
      block?.wipe();
      for (const lba of hotSectors(this.sizes[drive])) block?.poke(lba * 512, original(drive, lba));
    }
  }

  reset(): void {
    this.machine.reset();
    this.#entries = [];
    this.#master(true);
    // QEMU's drive has no unit attention of power-on.
    if (this.#cd) for (let i = 0; i < 3; i++) this.#requestSense(this.#cd.drive);
    for (const block of this.#all) block.log.length = 0;
  }

  get #all(): SparseBlock[] {
    return [...this.blocks, this.#disc].filter((block) => block !== null);
  }

  #requestSense(drive: 0 | 1): void {
    const steps: Step[] = [
      { do: "out", register: AtaRegister.Device, width: 1, value: 0xa0 | (drive << 4) },
      { do: "out", register: AtaRegister.LbaMid, width: 1, value: 18 },
      { do: "out", register: AtaRegister.Command, width: 1, value: 0xa0 },
      { do: "packet", bytes: [...cdb(PacketOp.RequestSense, 0, 0, 0, 18)] },
      { do: "block" },
      { do: "in", register: AtaRegister.Status, width: 1 },
    ];
    for (const value of [4, 0]) steps.push({ do: "out", register: AtaRegister.Control, width: 1, value });
    for (const step of steps) this.#step(step, { values: [], registers: [], memory: [] });
  }

  run(program: Program): OurRun {
    const run: OurRun = { traces: [], pauses: [] };
    for (const step of program) {
      const trace: Trace = { values: [], registers: [], memory: [] };
      const pauses = this.#step(step, trace);
      for (const [register, width] of SNAPSHOT) trace.registers.push(this.#in(register, width));
      trace.registers.push(this.machine.trap.interrupts.level(LINES[this.channel]) ? 1 : 0);
      run.traces.push(trace);
      run.pauses.push(pauses);
    }
    return run;
  }

  #in(register: number, width: 1 | 2 | 4): number {
    return this.machine.guest.in(portOf(this.channel, register), width);
  }

  #out(register: number, width: 1 | 2 | 4, value: number): void {
    this.machine.guest.out(portOf(this.channel, register), width, value);
  }

  #requests(): number {
    return this.#all.reduce((sum, block) => sum + block.log.length, 0);
  }

  #step(step: Step, trace: Trace): Pause[] {
    const pauses: Pause[] = [];
    const pause = (access: number) =>
      pauses.push({ access, status: this.#in(AtaRegister.AltStatus, 1), bmStatus: this.#in(AtaRegister.BmStatus, 1) });
    let requests = this.#requests();
    const after = (access: number) => {
      const now = this.#requests();
      if (now !== requests) pause(access);
      requests = now;
    };
    switch (step.do) {
      case "out": {
        if (step.register === AtaRegister.BmCommand ? (step.value & 1) !== 0 : step.register === AtaRegister.Command)
          trace.outside = this.#tableLeavesMemory();
        const active = (this.#in(AtaRegister.BmStatus, 1) & BmStatus.Active) !== 0;
        const [status, reason] = [this.#in(AtaRegister.AltStatus, 1), this.#in(AtaRegister.Count, 1) & 3];
        this.#out(step.register, step.width, step.value);
        if (requests !== this.#requests() || mayWait(step.register, step.value)) pause(1);
        // A packet's data that is to move by DMA has the reason of its command until the bus master is started.
        const over = (this.#in(AtaRegister.AltStatus, 1) & AtaStatus.DataRequest) === 0;
        const waits =
          this.#cd !== null && (status & AtaStatus.DataRequest) !== 0 && (reason !== AtaReason.Command || over);
        const starts = step.register === AtaRegister.BmCommand && (step.value & 1) !== 0;
        if ((active || starts) && pauses.length > 0 && (waits || requests !== this.#requests()))
          this.#collect(trace, this.#cd !== null);
        break;
      }
      case "in":
        trace.values.push(this.#in(step.register, step.width));
        after(1);
        break;
      case "drain":
        for (let i = 1; i <= step.times; i++) {
          trace.values.push(this.#in(AtaRegister.Data, step.width));
          after(i);
        }
        break;
      case "feed":
        for (let i = 1; i <= step.times; i++) {
          this.#out(AtaRegister.Data, step.width, fed(step.seed, i, step.width));
          after(i);
        }
        break;
      case "packet": {
        const heard = (this.#in(AtaRegister.AltStatus, 1) & AtaStatus.DataRequest) !== 0;
        const active = heard && (this.#in(AtaRegister.BmStatus, 1) & BmStatus.Active) !== 0;
        const words = step.bytes.length >> 1;
        for (let i = 1; i <= words; i++) {
          this.#out(AtaRegister.Data, 2, step.bytes[2 * i - 2] | (step.bytes[2 * i - 1] << 8));
          if (i === words) pause(i);
          else after(i);
        }
        if (active) this.#collect(trace, true);
        break;
      }
      case "block": {
        const ready =
          (this.#in(AtaRegister.AltStatus, 1) & AtaStatus.DataRequest) !== 0 &&
          (this.#in(AtaRegister.Count, 1) & 3) === AtaReason.ToHost;
        const bytes = this.#in(AtaRegister.LbaMid, 1) | (this.#in(AtaRegister.LbaHigh, 1) << 8);
        const times = ready ? Math.ceil(bytes / 2) : 0;
        trace.times = times;
        for (let i = 1; i <= times; i++) {
          trace.values.push(this.#in(AtaRegister.Data, 2));
          if (i === times) pause(i);
          else after(i);
        }
        break;
      }
      case "prds":
        this.#entries = step.entries;
        step.entries.forEach(([address, count], i) => {
          this.machine.guest.ram.write32(step.at + i * 8, address);
          this.machine.guest.ram.write32(step.at + i * 8 + 4, count);
        });
        break;
      case "master":
        this.#master(step.on);
        pause(1);
        break;
    }
    return pauses;
  }

  /** Does the PRD table, or a region that it names, reach where either machine has no RAM? */
  #tableLeavesMemory(): boolean {
    const { ram } = this.machine.guest;
    const inside = (at: number, length: number) => at + length <= VIDEO || (at >= 2 ** 20 && at + length <= MEMORY);
    let table = this.#in(AtaRegister.BmTable, 4);
    for (let i = 0; i < 512; i++, table += 8) {
      if (!inside(table, 8)) return true;
      const count = ram.read32(table + 4);
      if (!inside(ram.read32(table) >>> 0, (count & 0xfffe) === 0 ? 65536 : count & 0xfffe)) return true;
      if (count & 0x80000000) return false;
    }
    return false;
  }

  /** The memory that the last table names, as far as a read may have reached. */
  #collect(trace: Trace, always = false): void {
    const log = this.#all.flatMap((block) => block.log);
    if (!always && !log.some(({ op }) => op === Op.Read)) return;
    for (const [address, count] of this.#entries) {
      const length = (count & 0xfffe) === 0 ? 65536 : count & 0xfffe;
      trace.memory.push({ address, bytes: this.machine.guest.ram.bytes(address, length).slice() });
    }
  }

  #master(on: boolean): void {
    this.machine.guest.out(0xcf8, 4, 0x80000800 | PciConfig.Command);
    this.machine.guest.out(0xcfc, 2, PciCommand.IoSpace | (on ? PciCommand.BusMaster : 0));
  }
}

/** QEMU's PIIX3 with disks of the same content, on the same channel. */
export class Theirs {
  readonly channel: 0 | 1;
  readonly sizes: Sizes;
  readonly qtest: Qtest;
  readonly #folder = mkdtempSync(join(tmpdir(), "paravane-disks-"));
  readonly #files: (number | null)[];

  constructor(channel: 0 | 1, sizes: Sizes, seconds: number, cd: CdPlace | null = null) {
    this.channel = channel;
    this.sizes = sizes;
    const args: string[] = [];
    this.#files = sizes.map((size, drive) => {
      if (size === 0) return null;
      const path = join(this.#folder, `disk${drive}`);
      const file = openSync(path, "w+");
      ftruncateSync(file, size * 512);
      args.push("-drive", `if=none,id=d${drive},format=raw,discard=unmap,file=${path}`);
      args.push("-device", `ide-hd,bus=ide.${channel},unit=${drive},drive=d${drive},serial=SERIAL${drive},ver=1.0`);
      return file;
    });
    if (cd) {
      const path = join(this.#folder, "disc");
      writeFileSync(path, Buffer.concat(Array.from({ length: cd.sectors }, (_, lba) => discSector(lba))));
      args.push("-drive", `if=none,id=cd,media=cdrom,format=raw,readonly=on,file=${path}`);
      args.push("-device", `ide-cd,bus=ide.${channel},unit=${cd.drive},drive=cd,serial=SERIALCD,ver=1.0`);
    }
    this.restore();
    this.qtest = new Qtest(args, seconds);
  }

  /** Disks as before any program. */
  restore(): void {
    this.#files.forEach((file, drive) => {
      if (file === null) return;
      ftruncateSync(file, 0);
      ftruncateSync(file, this.sizes[drive] * 512);
      for (const lba of hotSectors(this.sizes[drive])) writeSync(file, original(drive, lba), 0, 512, lba * 512);
    });
  }

  peek(drive: number, offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    readSync(this.#files[drive] as number, bytes, 0, length, offset);
    return bytes;
  }

  close(): void {
    this.qtest.close();
    for (const file of this.#files) if (file !== null) closeSync(file);
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Machine reset by the PIIX3's reset register, then what firmware does. */
  reset(): void {
    const { qtest } = this;
    qtest.send("outb 0xcf9 0x2");
    qtest.send("outb 0xcf9 0x6");
    qtest.flush();
    const config = (register: number, value: number) => {
      qtest.send(`outl 0xcf8 0x${(0x80000900 + register).toString(16)}`);
      qtest.send(`outl 0xcfc 0x${value.toString(16)}`);
    };
    config(0x20, 0xc001);
    config(0x40, 0x80008000);
    this.#master(true);
    qtest.flush();
  }

  setMemory(address: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += 16384) {
      const part = bytes.subarray(at, at + 16384);
      const text = Buffer.from(part).toString("base64");
      this.qtest.command(`b64write 0x${(address + at).toString(16)} 0x${part.length.toString(16)} ${text}`);
    }
  }

  /** Runs `program`, until `enough` of what is there so far. */
  run(program: Program, ours: OurRun, enough: (traces: readonly Trace[]) => boolean = () => false): Trace[] {
    const traces: Trace[] = [];
    const { qtest } = this;
    let targets: ((answer: string) => void)[] = [];
    const send = (line: string, heard: (answer: string) => void) => {
      qtest.send(line);
      targets.push(heard);
    };
    const flush = () => {
      const all = targets;
      targets = [];
      qtest.flush((answer, i) => all[i](answer));
    };
    const nothing = () => {};
    let stopped = false;
    for (const [index, step] of program.entries()) {
      if (stopped) return traces;
      const trace: Trace = { values: [], registers: [], memory: [] };
      traces.push(trace);
      const pauses = ours.pauses[index];
      let access = 0;
      let pause = 0;
      const accessed = () => {
        access++;
        if (pauses[pause]?.access !== access) return;
        flush();
        this.#settle(pauses[pause++]);
        stopped ||= access === 1 && enough(traces.slice(0, -1));
      };
      const read = (register: number, width: 1 | 2 | 4) => {
        send(`in${"bw l"[width - 1]} 0x${portOf(this.channel, register).toString(16)}`, (answer) => {
          trace.values.push(Number(answer));
        });
        accessed();
      };
      const write = (register: number, width: 1 | 2 | 4, value: number) => {
        send(
          `out${"bw l"[width - 1]} 0x${portOf(this.channel, register).toString(16)} 0x${value.toString(16)}`,
          nothing,
        );
        accessed();
      };
      switch (step.do) {
        case "out":
          write(step.register, step.width, step.value);
          break;
        case "in":
          read(step.register, step.width);
          break;
        case "drain":
          for (let i = 1; i <= step.times; i++) read(AtaRegister.Data, step.width);
          break;
        case "feed":
          for (let i = 1; i <= step.times; i++) write(AtaRegister.Data, step.width, fed(step.seed, i, step.width));
          break;
        case "packet":
          for (let i = 0; i < step.bytes.length; i += 2)
            write(AtaRegister.Data, 2, step.bytes[i] | (step.bytes[i + 1] << 8));
          break;
        case "block":
          for (let i = 0; i < (ours.traces[index].times ?? 0); i++) read(AtaRegister.Data, 2);
          break;
        case "prds": {
          const table = Buffer.alloc(step.entries.length * 8);
          step.entries.forEach(([address, count], i) => {
            table.writeUInt32LE(address, i * 8);
            table.writeUInt32LE(count, i * 8 + 4);
          });
          send(
            `b64write 0x${step.at.toString(16)} 0x${table.length.toString(16)} ${table.toString("base64")}`,
            nothing,
          );
          break;
        }
        case "master":
          this.#master(step.on, nothing, targets);
          flush();
          this.#settle(pauses[0]);
          break;
      }
      for (const [register, width] of SNAPSHOT) {
        send(`in${width === 1 ? "b" : "l"} 0x${portOf(this.channel, register).toString(16)}`, (answer) => {
          trace.registers.push(Number(answer));
          if (trace.registers.length === SNAPSHOT.length) trace.registers.push(qtest.levels[LINES[this.channel]]);
        });
      }
      for (const { address, bytes } of ours.traces[index].memory) {
        send(`b64read 0x${address.toString(16)} 0x${bytes.length.toString(16)}`, (answer) => {
          trace.memory.push({ address, bytes: Buffer.from(answer, "base64") });
        });
      }
    }
    flush();
    return traces;
  }

  /** Lets I/O end: BSY falls, and no DMA is under way that ours has not got, too. */
  #settle(expected: Pause): void {
    const [status, bm] = [portOf(this.channel, 8), portOf(this.channel, 18)].map(
      (port) => `inb 0x${port.toString(16)}`,
    );
    const same = expected.status & AtaStatus.DataRequest && expected.bmStatus & BmStatus.Active;
    const since = performance.now();
    let moving = 0;
    for (let i = 0; ; i++) {
      // On a machine that is busy with other things, I/O takes its time.
      const patience = performance.now() - since < 400;
      let busy = false;
      this.qtest.send(status);
      this.qtest.send(bm);
      const seen: number[] = [];
      this.qtest.flush((answer) => seen.push(Number(answer)));
      busy = (seen[0] & AtaStatus.Busy) !== 0;
      // A packet drive that waits for the bus master says DRQ and BSY there.
      if ((seen[0] & 0x88) === 0x88 && (seen[1] & BmStatus.Active) === 0) return;
      const dma = (seen[0] & AtaStatus.DataRequest) !== 0 && (seen[1] & BmStatus.Active) !== 0;
      if (busy) {
        if (!patience || (expected.status & AtaStatus.Busy && i > 20)) return;
        continue;
      }
      if (!dma) return;
      if (!patience || (same && ++moving > 20)) return;
    }
  }

  #master(on: boolean, heard?: () => void, targets?: ((answer: string) => void)[]): void {
    for (const line of [
      `outl 0xcf8 0x${(0x80000900 + PciConfig.Command).toString(16)}`,
      `outw 0xcfc 0x${(PciCommand.IoSpace | (on ? PciCommand.BusMaster : 0)).toString(16)}`,
    ]) {
      this.qtest.send(line);
      if (heard) targets?.push(heard);
    }
  }
}
