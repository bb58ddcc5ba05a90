// Random register programs against the IDE controller: any port access at any time, PRD tables that point anywhere, disks
// that fail or take their time, resets. What must never happen is checked after every access; what must be reached at
// least once (every command's success and failure, every PRD outcome) is counted and asserted at the end.
import { expect, test } from "vitest";
import { AtaControl, AtaRegister, AtaStatus, Prd } from "../../assembly/spec/ata.ts";
import { DriveField, IdeField, IdePhase, type PrdOutcome } from "../../assembly/spec/ide.ts";
import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import type { Width } from "../../src/core/machine.ts";
import { attachIde } from "../../src/host/device/ide/controller.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { coreFor } from "../../src/wasm/core.ts";
import { IdeBench } from "../support/ide.ts";
import { Random } from "../support/random.ts";

const STEPS = 3_000_000;
const SEED = Number(process.env.PARAVANE_SEED ?? 20260801);
const SECTORS = 3000;
const RAM = 512 << 10;
const GUARD = 0xa5;
/** Bytes of host memory that hold the channels' contexts. */
const HOST = 3 << 16;

/** Commands that move media, and whether their address is 48 bits long and their data go by DMA. */
const MEDIA = [
  ...[0x20, 0x21, 0xc4, 0x30, 0x31, 0xc5, 0x40, 0x41].map((code) => ({ code, ext: false, dma: false })),
  ...[0x24, 0x29, 0x34, 0x39, 0x42].map((code) => ({ code, ext: true, dma: false })),
  ...[0xc8, 0xc9, 0xca, 0xcb].map((code) => ({ code, ext: false, dma: true })),
  ...[0x25, 0x35].map((code) => ({ code, ext: true, dma: true })),
];
const MAY_FAIL = [0xe7, 0xea, 0xef, 0xc6, 0x91, 0x27];
const ALWAYS = [0xec, 0x90, 0xf8, 0xe5, 0x98, 0xe0, 0xe1, 0xe2, 0xe3, 0xe6, 0x94, 0x95, 0x96, 0x97, 0x99, 0x10, 0x70];
const NAMES = ["exact", "long", "short", "bad address", "no bus master"] as const;

/** Fails, delays and checks everything it is asked. */
class HostileBlock implements Block {
  readonly size = SECTORS * 512;
  readonly sectorSize = 512;
  readonly readOnly = false;
  copied = 0;
  /** Batches since the last look. */
  batches = 0;
  readonly waiting: (() => void)[] = [];
  readonly #bytes = new Uint8Array(this.size);
  readonly #random: Random;
  readonly #mayTouch: (start: number, length: number) => boolean;

  constructor(random: Random, mayTouch: (start: number, length: number) => boolean) {
    this.#random = random;
    this.#mayTouch = mayTouch;
  }

  submit(batch: readonly BlockRequest[]): void | Promise<void> {
    this.batches++;
    if (!this.#random.oneIn(8)) {
      for (const request of batch) this.#one(request);
      return;
    }
    return new Promise((resolve) =>
      this.waiting.push(() => {
        for (const request of batch) this.#one(request);
        resolve();
      }),
    );
  }

  close(): void {}

  #one(request: BlockRequest): void {
    const { op, offset, length, segments, memory } = request;
    if (op === Op.Read || op === Op.Write) {
      if (offset < 0 || offset + length > this.size || length % 512 !== 0)
        throw new Error(`asked for ${offset}+${length}`);
      if (segments.total !== length) throw new Error(`segments of ${segments.total} for ${length} bytes`);
      for (let i = 0; i < segments.count; i++) {
        if (!this.#mayTouch(segments.start(i), segments.length(i))) throw new Error("segment outside the guest");
      }
    } else if (op !== Op.Flush) throw new Error(`op ${op}`);
    request.status = this.#random.oneIn(12)
      ? this.#random.pick([Status.Media, Status.Io, Status.NoSpace, Status.ReadOnly, Status.OutOfRange])
      : Status.Ok;
    if (request.status !== Status.Ok) return;
    let at = offset;
    for (let i = 0; i < segments.count; i++) {
      const [start, run] = [segments.start(i), segments.length(i)];
      if (op === Op.Read) memory.set(this.#bytes.subarray(at, at + run), start);
      else this.#bytes.set(memory.subarray(start, start + run), at);
      at += run;
    }
  }
}

class Fuzz {
  readonly random = new Random(SEED);
  readonly machine = new LabMachine({ memory: RAM, hostMemory: 1 << 20 });
  readonly counts = new Map<string, number>();
  readonly blocks: HostileBlock[];
  /** Per channel: context, the command under way. */
  readonly #channels: { at: number; command: number | null }[] = [];
  readonly #core = coreFor(this.machine.memory.wasm);
  readonly #bench: IdeBench[];

  constructor() {
    const { memory } = this.machine;
    const reserve = memory.reserve.bind(memory);
    memory.reserve = (bytes, align) => {
      const at = reserve(bytes, align);
      if (bytes === IdeField.Size) this.#channels.push({ at, command: null });
      return at;
    };
    this.#watch();
    const mayTouch = (start: number, length: number) => {
      const ram = start >= memory.base && start + length <= memory.base + memory.size;
      return (
        ram || this.#channels.some(({ at }) => start >= at + IdeField.Buffer && start + length <= at + IdeField.Size)
      );
    };
    this.blocks = [0, 1, 2].map(() => new HostileBlock(this.random, mayTouch));
    memory.linear.fill(GUARD, 0, memory.base);
    memory.linear.fill(0, 65536, 65536 + HOST);
    const drives = [[this.blocks[0], this.blocks[1]], [this.blocks[2]]];
    const controller = attachIde(this.machine, { drives, slot: 1 });
    memory.linear.fill(GUARD, reserve(0), memory.base);
    this.#bench = ([0, 1] as const).map((channel) =>
      Object.assign(Object.create(IdeBench.prototype), {
        machine: this.machine,
        cpu: this.machine.guest,
        controller,
        channel,
        registers: { read: this.#in(channel), write: this.#out(channel) },
      }),
    );
    this.#bench.forEach((bench) => {
      bench.setBusMaster(true);
    });
    this.#freeze();
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  get steps(): number {
    return this.machine.exits.total;
  }

  /** Host memory outside the contexts, of which not a byte may have changed. */
  checkGuards(): void {
    const { linear, base } = this.machine.memory;
    const end = 65536 + HOST;
    for (const [from, to] of [
      [0, 65536],
      [end, base],
    ]) {
      for (let i = from; i < to; i++) if (linear[i] !== GUARD) throw new Error(`host memory changed at ${i}`);
    }
  }

  /** Every call into the core is looked at: how commands end, how PRD walks end. */
  #watch(): void {
    const original = this.#core.call;
    const seen = <T>(ctx: number, value: T): T => {
      this.#observe(ctx);
      return value;
    };
    Object.assign(this.#core, {
      call: {
        ...original,
        ideReset: (ctx: number) => seen(ctx, original.ideReset(ctx)),
        ideRead: (ctx: number, register: number, width: number) => seen(ctx, original.ideRead(ctx, register, width)),
        ideFinish: (ctx: number, status: number, lba: number) => seen(ctx, original.ideFinish(ctx, status, lba)),
        ideWrite: (ctx: number, register: number, width: number, value: number) => {
          const channel = this.#channels.find(({ at }) => at === ctx)!;
          if (register === AtaRegister.Command && width === 1 && this.#accepts(ctx)) channel.command = value & 0xff;
          return seen(ctx, original.ideWrite(ctx, register, width, value));
        },
        idePrd: (ctx: number, master: number) => {
          const asked = original.idePrd(ctx, master);
          this.count(`PRD ${NAMES[this.#core.get(ctx + IdeField.Outcome) as Exclude<PrdOutcome, PrdOutcome.None>]}`);
          return seen(ctx, asked);
        },
      },
    });
  }

  #accepts(ctx: number): boolean {
    const drive = ctx + IdeField.Drives + this.#core.get(ctx + IdeField.Selected) * DriveField.Size;
    return this.#core.get(ctx + IdeField.Phase) === IdePhase.Idle && this.#core.get(drive + DriveField.Kind) !== 0;
  }

  #observe(ctx: number): void {
    const core = this.#core;
    const channel = this.#channels.find(({ at }) => at === ctx)!;
    const drive = ctx + IdeField.Drives + core.get(ctx + IdeField.Selected) * DriveField.Size;
    const phase = core.get(ctx + IdeField.Phase);
    const status = core.get(drive + DriveField.Status);
    const busy = (status & AtaStatus.Busy) !== 0;
    const request = (status & AtaStatus.DataRequest) !== 0;
    const there = core.get(drive + DriveField.Kind) !== 0;
    if (busy && request) throw new Error("BSY and DRQ together");
    if (there && busy !== (phase === IdePhase.Busy || phase === IdePhase.Reset))
      throw new Error(`BSY in phase ${phase}`);
    if (request !== (phase === IdePhase.PioIn || phase === IdePhase.PioOut || phase === IdePhase.Dma)) {
      throw new Error(`DRQ in phase ${phase}`);
    }
    if ((status & AtaStatus.Error) !== 0 && (busy || request)) throw new Error("ERR before the end");
    if (core.get(ctx + IdeField.BufferAt) > core.get(ctx + IdeField.BufferEnd)) throw new Error("past the block");
    if (core.get(ctx + IdeField.BufferEnd) > IdeField.Size - IdeField.Buffer) throw new Error("past the buffer");
    if (channel.command === null) return;
    if (phase === IdePhase.Reset) this.#ended(channel, "reset");
    else if (phase === IdePhase.Idle) this.#ended(channel, (status & AtaStatus.Error) !== 0 ? "error" : "ok");
  }

  #ended(channel: { command: number | null }, how: string): void {
    this.count(`${channel.command!.toString(16).padStart(2, "0")} ${how}`);
    channel.command = null;
  }

  /** A port access, and what no single one may cause. */
  #access<T>(go: () => T): T {
    for (const block of this.blocks) block.batches = 0;
    const value = go();
    if (this.blocks.reduce((sum, block) => sum + block.batches, 0) > 1)
      throw new Error("more than one batch an access");
    return value;
  }

  #port(channel: 0 | 1, register: AtaRegister): number {
    if (register <= AtaRegister.Command) return (channel === 0 ? 0x1f0 : 0x170) + register;
    if (register === AtaRegister.Control) return channel === 0 ? 0x3f6 : 0x376;
    return 0xc000 + channel * 8 + register - AtaRegister.BmCommand;
  }
  #in(channel: 0 | 1) {
    return (register: AtaRegister, width: Width) =>
      this.#access(() => this.machine.guest.in(this.#port(channel, register), width));
  }
  #out(channel: 0 | 1) {
    return (register: AtaRegister, width: Width, value: number) =>
      this.#access(() => this.machine.guest.out(this.#port(channel, register), width, value >>> 0));
  }

  async step(): Promise<void> {
    const { random } = this;
    const bench = this.#bench[random.oneIn(3) ? 1 : 0];
    const what = random.below(100);
    if (what < 12) this.#anyAccess(bench);
    else if (what < 55) this.#mediaCommand(bench);
    else if (what < 72) this.#otherCommand(bench);
    else if (what < 76) this.#moveData(bench, random.oneIn(16) ? 5000 : random.below(50));
    else if (what < 88) await this.#release();
    else if (what < 98) this.#softReset(bench);
    else if (what < 99) bench.setBusMaster(!random.oneIn(4));
    else if (random.oneIn(4)) {
      this.machine.reset();
      this.#freeze();
    }
    if (random.oneIn(4)) this.#acknowledge(bench);
  }

  /** Near the end of the run passwords may be set, and lock the disks; until then they are frozen. */
  #freeze(): void {
    if (this.steps > STEPS * 0.95) return;
    for (const bench of this.#bench)
      for (const device of [0xe0, 0xf0]) {
        bench.write(AtaRegister.Device, device);
        bench.write(AtaRegister.Command, 0xf5);
      }
  }

  #anyAccess(bench: IdeBench): void {
    const { random } = this;
    const register = random.pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 18, 19, 20, 21, 22, 23]) as AtaRegister;
    const width = random.pick([1, 1, 1, 2, 4] as const);
    if (random.oneIn(2)) bench.read(register, width);
    else bench.write(register, random.oneIn(2) ? random.u32() : random.below(256), width);
  }

  #otherCommand(bench: IdeBench): void {
    const { random } = this;
    bench.write(AtaRegister.Device, random.below(256));
    bench.write(AtaRegister.Features, random.pick([2, 3, 0x55, 0x82, 0xaa, 0x66, 0xcc, random.below(256)]));
    bench.write(AtaRegister.Count, random.pick([0, 1, 4, 8, 16, 0x45, 0x22, 0x0c, random.below(256)]));
    const code = random.oneIn(4) ? random.below(256) : random.pick([...ALWAYS, ...MAY_FAIL, ...MAY_FAIL]);
    bench.write(AtaRegister.Command, code);
  }

  #mediaCommand(bench: IdeBench): void {
    const { random } = this;
    const { code, ext, dma } = random.pick(MEDIA);
    const count = random.pick([random.oneIn(8) ? 0 : 1, 1, 1, 1, 2, 2, 3, random.oneIn(4) ? 17 : 1]);
    const lba = random.pick([
      random.below(SECTORS - 256),
      random.below(SECTORS - 256),
      random.below(SECTORS - 256),
      SECTORS - count,
      SECTORS - 1,
      SECTORS,
      random.u32() % 2 ** 28,
    ]);
    // A driver would look first; half the time we do.
    if (random.oneIn(3)) this.#moveData(bench, random.pick([10, 128, 256, 600]));
    if (dma) this.#table(bench, (count || 256) * 512);
    const startFirst = random.oneIn(3);
    if (dma && startFirst) bench.write(AtaRegister.BmCommand, random.pick([1, 9]));
    const drive = random.below(2);
    if (ext && !random.oneIn(16)) bench.command48(code, random.oneIn(16) ? lba * 4096 : lba, count, drive);
    else if (random.oneIn(8)) {
      bench.write(AtaRegister.Device, (drive << 4) | random.below(16));
      bench.write(AtaRegister.Count, count);
      bench.write(AtaRegister.LbaLow, random.below(70));
      bench.write(AtaRegister.LbaMid, random.below(4));
      bench.write(AtaRegister.LbaHigh, random.oneIn(8) ? random.below(256) : 0);
      bench.write(AtaRegister.Command, code);
    } else bench.command28(code, lba, count, drive);
    if (dma && !startFirst && !random.oneIn(8)) bench.write(AtaRegister.BmCommand, random.pick([1, 9]));
    if (dma && random.oneIn(8)) bench.write(AtaRegister.BmCommand, 0);
  }

  /** A PRD table for `need` bytes, or for more, or less, or nonsense; in RAM, at its edge or outside. */
  #table(bench: IdeBench, need: number): void {
    const { random } = this;
    const table = random.oneIn(16)
      ? random.pick([random.u32(), RAM - 8, RAM - 4, RAM, 0xfffffff8])
      : random.below(RAM - 8 * 600) & ~3;
    const entries: [number, number][] = [];
    const total = random.pick([need, need, need, need + 2, need * 2, need - 2, need >> 1]);
    for (let left = total; left > 0; ) {
      const length = Math.min(left, random.pick([2, 512, 4096, 65536, 65536]), (random.below(32768) + 1) * 2);
      if (entries.length === 520) break;
      const address = random.oneIn(300) ? random.u32() : random.below(RAM - length + 1);
      left -= length;
      entries.push([address, (length & 0xffff) | (left <= 0 && !random.oneIn(12) ? Prd.EndOfTable : 0)]);
    }
    if (table + entries.length * 8 <= RAM) bench.prds(table, entries);
    bench.write(AtaRegister.BmCommand, 0);
    bench.write(AtaRegister.BmTable, table, 4);
  }

  /** Data-port accesses while the drive wants them. */
  #moveData(bench: IdeBench, most: number): void {
    const width = this.random.pick([2, 2, 4, 1] as const);
    for (let i = 0; i < most && (bench.altStatus & AtaStatus.DataRequest) !== 0; i++) {
      const at = this.#channels[bench.channel].at;
      const phase = this.#core.get(at + IdeField.Phase);
      if (phase === IdePhase.PioIn) bench.read(AtaRegister.Data, width);
      else if (phase === IdePhase.PioOut) bench.write(AtaRegister.Data, i, width === 1 ? 2 : width);
      else break;
    }
  }

  #softReset(bench: IdeBench): void {
    bench.write(AtaRegister.Control, AtaControl.SoftwareReset);
    if (this.random.oneIn(3)) this.#anyAccess(bench);
    bench.write(AtaRegister.Control, this.random.oneIn(4) ? AtaControl.InterruptDisable : 0);
  }

  #acknowledge(bench: IdeBench): void {
    bench.read(AtaRegister.Status);
    bench.write(AtaRegister.BmStatus, bench.read(AtaRegister.BmStatus));
  }

  async #release(): Promise<void> {
    for (const block of this.blocks) for (const complete of block.waiting.splice(0)) complete();
    for (let tick = 0; tick < 4; tick++) await Promise.resolve();
  }
}

test(`${STEPS.toLocaleString("en")} port accesses of random programs, seed ${SEED}`, async () => {
  const fuzz = new Fuzz();
  for (let round = 0; fuzz.steps < STEPS; round++) {
    await fuzz.step();
    if (round % 2048 === 0) fuzz.checkGuards();
  }
  fuzz.checkGuards();
  const { counts } = fuzz;
  const expected = [
    ...MEDIA.flatMap(({ code }) => [`${code.toString(16)} ok`, `${code.toString(16)} error`]),
    ...MAY_FAIL.flatMap((code) => [`${code.toString(16)} ok`, `${code.toString(16)} error`]),
    ...ALWAYS.map((code) => `${code.toString(16)} ok`),
    ...NAMES.map((name) => `PRD ${name}`),
    // A reset in the middle of each way to move data.
    ...["20 reset", "30 reset", "c8 reset", "ca reset", "e7 reset"],
    // What no drive knows.
    "00 error",
  ];
  const rows = [...counts].sort(([a], [b]) => a.localeCompare(b)).filter(([what]) => expected.includes(what));
  console.log(rows.map(([what, times]) => `${what}: ${times}`).join("   "));
  expect(expected.filter((what) => (counts.get(what) ?? 0) === 0)).toEqual([]);
});
