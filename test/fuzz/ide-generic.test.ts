// The operations of QEMU's generic_fuzz on the whole IDE function: reads and writes of any of its ports at any width, PCI
// configuration, descriptors and packets planted in memory, clock steps; and a failing, late back end, resets, the tray, and
// saves that are restored. Drives: a disk, a CompactFlash card, a disk of 4 KiB sectors that stops on errors, a CD drive.
import { expect, test } from "vitest";
import { AtaCommand, AtaStatus, Prd } from "../../assembly/spec/ata.ts";
import { DriveField, IdeField, IdePhase } from "../../assembly/spec/ide.ts";
import type { Width } from "../../src/core/machine.ts";
import { attachIde, type IdeController } from "../../src/host/device/ide/controller.ts";
import type { IdeState } from "../../src/host/device/ide/save.ts";
import { cdFromBlock } from "../../src/host/media/image.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { coreFor } from "../../src/wasm/core.ts";
import { HostileBlock } from "../support/hostile-block.ts";
import { LabClock } from "../support/lab-clock.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

const OPERATIONS = tier(10_000_000, 100_000_000);
const SEED = Number(process.env.PARAVANE_SEED ?? 20260802);
const RAM = 512 << 10;
const GUARD = 0xa5;
/** Host memory for the contexts, from 64 KiB on. */
const HOST = 3 << 16;
/** What one access may have a block asked for: a CD read goes in pieces. */
const MOST_BATCHES = 600;
const PACKETS = [
  0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x23, 0x25, 0x28, 0x2b, 0x42, 0x43, 0x45, 0x46, 0x4a, 0x4b, 0x51, 0x52,
].concat([0x55, 0x5a, 0xa4, 0xa8, 0xad, 0xb9, 0xbb, 0xbd, 0xbe]);
const SMART = [0xd0, 0xd1, 0xd2, 0xd4, 0xd5, 0xd6, 0xd8, 0xda, 0xdb];

class Fuzz {
  readonly random = new Random(SEED);
  readonly clock = new LabClock();
  readonly machine = Object.assign(new LabMachine({ memory: RAM, hostMemory: 1 << 20 }), { clock: this.clock });
  readonly blocks: HostileBlock[];
  readonly counts = new Map<string, number>();
  readonly controller: IdeController;
  readonly #contexts: number[] = [];
  readonly #core = coreFor(this.machine.memory.wasm);
  readonly #ports: number[];
  readonly #first: IdeState;

  constructor() {
    const { memory } = this.machine;
    const reserve = memory.reserve.bind(memory);
    memory.reserve = (bytes, align) => {
      const at = reserve(bytes, align);
      if (bytes === IdeField.Size) this.#contexts.push(at);
      return at;
    };
    const mayTouch = (where: Uint8Array, start: number, length: number) => {
      // A device's own array: its bounds are the array's.
      if (where.buffer !== memory.wasm.buffer) return start + length <= where.length;
      if (start >= memory.base && start + length <= memory.base + memory.size) return true;
      return this.#contexts.some((at) => start >= at + IdeField.Buffer && start + length <= at + IdeField.Size);
    };
    const block = (sectors: number, bytes: number) => new HostileBlock(sectors, bytes, this.random, mayTouch);
    this.blocks = [block(3000, 512), block(2000, 512), block(700, 4096), block(1200, 512)];
    const disc = cdFromBlock(this.blocks[3]);
    memory.linear.fill(GUARD, 0, memory.base);
    memory.linear.fill(0, 65536, 65536 + HOST);
    const onError = { read: "stop", write: "retry" } as const;
    this.controller = attachIde(this.machine, {
      drives: [
        [this.blocks[0], { block: this.blocks[1], kind: "compact-flash" }],
        [{ cd: disc }, { block: this.blocks[2], onError }],
      ],
      slot: 1,
    });
    memory.linear.fill(GUARD, reserve(0), memory.base);
    const command = [0x1f0, 0x170].flatMap((base) => Array.from({ length: 8 }, (_, i) => base + i));
    this.#ports = [...command, ...command, 0x3f6, 0x376, ...Array.from({ length: 16 }, (_, i) => 0xc000 + i)];
    this.machine.guest.out(0xcf8, 4, 0x80000804);
    this.machine.guest.out(0xcfc, 2, 7);
    this.#first = this.controller.save();
  }

  get operations(): number {
    return this.machine.exits.total;
  }

  /** Requests that the blocks were given. */
  get requests(): number {
    return this.blocks.reduce((sum, { requests }) => sum + requests, 0);
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }

  in(port: number, width: Width): number {
    const value = this.machine.guest.in(port, width);
    if (!(value >= 0 && value < 2 ** (8 * width))) throw new Error(`port ${port} read ${value} at width ${width}`);
    this.#look();
    return value;
  }
  out(port: number, width: Width, value: number): void {
    this.machine.guest.out(port, width, value);
    this.#look();
  }

  /** What must hold after every access. */
  #look(): void {
    const core = this.#core;
    for (const block of this.blocks) {
      if (block.batches > MOST_BATCHES) throw new Error(`${block.batches} batches for one access`);
      block.batches = 0;
      if (block.wrong.length > 0) throw new Error(block.wrong.join("; "));
    }
    for (const at of this.#contexts) {
      const drive = at + IdeField.Drives + core.get(at + IdeField.Selected) * DriveField.Size;
      const status = core.get(drive + DriveField.Status);
      const phase = core.get(at + IdeField.Phase);
      const busy = (status & AtaStatus.Busy) !== 0;
      const request = (status & AtaStatus.DataRequest) !== 0;
      if (busy && request) throw new Error("BSY and DRQ together");
      if (core.get(drive + DriveField.Kind) !== 0 && busy !== (phase === IdePhase.Busy || phase === IdePhase.Reset))
        throw new Error(`BSY ${busy} in phase ${phase}`);
      if (request !== (phase >= IdePhase.PioIn && phase <= IdePhase.Dma)) throw new Error(`DRQ in phase ${phase}`);
      if ((status & AtaStatus.Error) !== 0 && (busy || request)) throw new Error("ERR before the end");
      const end = core.get(at + IdeField.BufferEnd);
      if (core.get(at + IdeField.BufferAt) > end || end > IdeField.Size - IdeField.Buffer)
        throw new Error("past the block");
    }
  }

  /** Host memory outside the contexts, of which not a byte may have changed. */
  checkGuards(): void {
    const { linear, base } = this.machine.memory;
    const wrong = (from: number, to: number) => linear.subarray(from, to).some((byte) => byte !== GUARD);
    if (wrong(0, 65536) || wrong(65536 + HOST, base)) throw new Error("host memory changed");
  }

  async step(): Promise<void> {
    const { random } = this;
    const what = random.below(64);
    const base = random.pick([0x1f0, 0x170]);
    if (what < 12) this.in(random.pick(this.#ports), random.pick([1, 1, 2, 4]));
    else if (what < 26) this.out(random.pick(this.#ports), random.pick([1, 1, 2, 4]), this.#value());
    else if (what < 38) this.#command(base);
    else if (what < 44) this.#packet();
    else if (what < 50) this.#data(base);
    else if (what < 54) this.#plant();
    else if (what < 56) await this.#late();
    else if (what < 58) this.clock.pass(random.pick([0, 1, 5, 5, 50, 10_000]));
    else if (what < 60) this.#configuration();
    else if (what === 60) this.controller.resume();
    else if (what === 61 && random.oneIn(6)) this.#tray();
    else if (what === 62 && random.oneIn(8)) await this.#rest();
    else if (random.oneIn(40)) this.machine.reset();
    else if (random.oneIn(8)) await this.#restore();
  }

  #value(): number {
    const { random } = this;
    return random.oneIn(3)
      ? random.u32()
      : random.pick([0, 1, 2, 4, 8, 9, 0x55, 0x80, 0xa0, 0xb0, 0xe0, 0xf0, random.below(256)]);
  }

  /** Most of the time a command comes when the drive can hear it: the last one is seen through, or ended by force. */
  #ready(base: number): void {
    const { random } = this;
    const control = base + 0x206;
    if (random.oneIn(12)) return;
    this.out(control, 1, random.oneIn(8) ? 2 : 0);
    for (let rounds = 0; rounds < 12; rounds++) {
      const status = this.in(control, 1);
      if ((status & (AtaStatus.Busy | AtaStatus.DataRequest)) === 0) return;
      if (status & AtaStatus.DataRequest && !random.oneIn(3)) {
        // The direction that does not apply is ignored.
        for (let i = 0; i < 70; i++) {
          this.in(base, 4);
          this.out(base, 4, i);
        }
      } else if (random.oneIn(3)) this.out(base + 7, 1, random.pick([0x08, 0xe1]));
      else if (random.oneIn(2)) {
        this.out(control, 1, 4);
        this.out(control, 1, 0);
      } else for (const block of this.blocks) block.release();
    }
  }

  /** A command that a driver could have meant. */
  #command(base: number): void {
    const { random } = this;
    this.#ready(base);
    const code = random.oneIn(3)
      ? random.below(256)
      : random.pick([
          0x20, 0x24, 0x30, 0x34, 0xc4, 0xc5, 0xc8, 0xca, 0x25, 0x35, 0x06, 0xb0, 0xec, 0xa1, 0xe1, 0x08, 0x45, 0x2f,
          0x3f, 0xf9,
        ]);
    this.out(base + 6, 1, random.pick([0xe0, 0xf0, 0xe0, 0xf0, 0xa0, 0xb0]));
    const smart = code === AtaCommand.Smart;
    for (let deep = random.oneIn(6) ? 0 : 1; deep >= 0; deep--) {
      this.out(
        base + 1,
        1,
        smart ? random.pick(SMART) : random.pick([0, 1, 2, 3, 0x55, 0xc2, 0xc3, random.below(256)]),
      );
      this.out(base + 2, 1, deep ? 0 : random.pick([0, 1, 1, 2, 8, 17, random.below(256)]));
      this.out(base + 3, 1, smart ? random.pick([0, 1, 2, 6, 0x7f, 0x81, 0x82, 0x85]) : deep ? 0 : random.below(256));
      this.out(base + 4, 1, smart ? 0x4f : deep ? 0 : random.below(random.oneIn(4) ? 14 : 3));
      this.out(base + 5, 1, smart ? 0xc2 : random.oneIn(12) ? random.below(256) : 0);
    }
    // Passwords would end it all: the disks would be locked.
    if (code === AtaCommand.SecuritySetPassword && !random.oneIn(50)) return;
    this.count(`command ${code.toString(16)}`);
    const master = base === 0x1f0 ? 0xc000 : 0xc008;
    const dma = [0xc8, 0xca, 0x25, 0x35, 0x06, 0xe9, 0xeb, 0x47, 0x57].includes(code);
    if (dma) this.#plant(master);
    this.out(base + 7, 1, code);
    if (dma && !random.oneIn(4)) this.out(master, 1, random.pick([1, 9]));
  }

  #packet(): void {
    const { random } = this;
    this.#ready(0x170);
    const dma = random.below(2);
    if (dma) this.#plant(0xc008);
    const limit = random.pick([0, 1, 6, 2048, 2048, 0xfffe, 0xffff, random.below(65536)]);
    for (const [i, value] of [0xa0, dma, 0, 0, limit & 0xff, limit >> 8].entries())
      this.out(0x170 + (i || 6), 1, value);
    this.out(0x177, 1, AtaCommand.Packet);
    const opcode = random.oneIn(8)
      ? random.below(256)
      : random.pick(random.oneIn(2) ? PACKETS : [0x28, 0xa8, 0xbe, 0x03, 0x1b]);
    const small = () => random.pick([0, 0, 0, 1, 2, 4, 16, random.below(256)]);
    const bytes = [opcode, ...Array.from({ length: 11 }, small)];
    if (random.oneIn(4)) bytes.fill(random.pick([0, 0xff]), 2, 6);
    if (!random.oneIn(4)) bytes[2] = bytes[3] = bytes[6] = bytes[7] = 0;
    this.count(`packet ${opcode.toString(16)}`);
    for (let i = 0; i < 12; i += 2) this.out(0x170, 2, bytes[i] | (bytes[i + 1] << 8));
    if (dma && random.oneIn(2)) this.out(0xc008, 1, 9);
  }

  #data(base: number): void {
    const width = this.random.pick([1, 2, 2, 2, 4] as const);
    const reads = this.random.oneIn(2);
    const most = this.random.pick([1, 3, 10, 128, this.random.oneIn(20) ? 5000 : 20]);
    const status = base + 7 === 0x1f7 ? 0x3f6 : 0x376;
    for (let i = 0; i < most; i++) {
      if (i % 32 === 0 && !this.random.oneIn(6) && (this.in(status, 1) & AtaStatus.DataRequest) === 0) break;
      if (reads) this.in(base, width);
      else this.out(base, width, i * 257);
    }
  }

  /** Descriptors for either bus master, sound or not. */
  #plant(master = this.random.pick([0xc000, 0xc008])): void {
    const { random } = this;
    const { ram } = this.machine.guest;
    const table = random.oneIn(10) ? random.pick([RAM - 8, RAM - 4, 0xfff8]) : random.below(RAM / 4096) * 4096;
    const entries = random.oneIn(20) ? 600 : 1 + random.below(12);
    for (let i = 0; i < entries && table + i * 8 + 8 <= RAM; i++) {
      ram.write32(table + i * 8, random.oneIn(10) ? random.u32() : random.below(RAM - 65536));
      const count = random.pick([0, 0, 0, 2, 512, 2048, 4096, 65534, random.below(65536)]);
      ram.write32(table + i * 8 + 4, (count | (i === entries - 1 && !random.oneIn(10) ? Prd.EndOfTable : 0)) >>> 0);
    }
    this.out(master, 1, 0);
    this.out(master + 4, 4, random.oneIn(20) ? random.u32() : table);
    if (random.oneIn(2)) this.out(master, 1, random.pick([1, 9]));
  }

  #configuration(): void {
    const { random } = this;
    const { guest } = this.machine;
    guest.out(
      0xcf8,
      4,
      (0x80000800 | (random.pick([0, 4, 4, 8, 0x20, 0x3c, 0x40, 0x48, random.below(256)]) & 0xfc)) >>> 0,
    );
    if (random.oneIn(2)) guest.in(0xcfc + random.below(4), random.pick([1, 2, 4]));
    else guest.out(0xcfc, random.pick([1, 2, 4]), random.u32());
    if (!random.oneIn(3)) return;
    // Where the fuzzer expects it, most of the time.
    guest.out(0xcf8, 4, 0x80000820);
    guest.out(0xcfc, 4, 0xc000);
    guest.out(0xcf8, 4, 0x80000804);
    guest.out(0xcfc, 2, random.oneIn(6) ? 1 : 7);
  }

  #tray(): void {
    const tray = this.controller.tray(1, 0);
    const { disc } = tray;
    const what = this.random.below(3);
    if (what === 0) tray.pressEject();
    else if (disc && what === 1) {
      tray.eject({ force: true });
      tray.insert(disc);
    }
  }

  async #late(): Promise<void> {
    for (const block of this.blocks) block.release();
    for (let tick = 0; tick < 6; tick++) await Promise.resolve();
  }

  async #restore(): Promise<void> {
    await this.#rest();
    this.count("restore");
    // What it is, or what it was at first: no longer locked, or configured away.
    const state = this.random.oneIn(2) ? this.controller.save() : this.#first;
    await this.controller.restore(JSON.parse(JSON.stringify(state)));
  }

  /** With the back end done and time gone by, no drive is busy for ever, unless SRST holds it. */
  async #rest(): Promise<void> {
    for (let rounds = 0; rounds < 200; rounds++) {
      await this.#late();
      this.controller.resume();
      this.clock.pass(10_000);
      const waits = this.blocks.some((block) => block.waiting.length > 0) || this.controller.stopped;
      const idle = this.#contexts.every((at) => this.#core.get(at + IdeField.InFlight) === 0);
      if (idle && !waits) break;
    }
    for (const at of this.#contexts) {
      if (this.#core.get(at + IdeField.InFlight) !== 0) throw new Error("something stays in flight");
      const reset = (this.#core.get(at + IdeField.Control) & 4) !== 0;
      const phase = this.#core.get(at + IdeField.Phase);
      if (phase === IdePhase.Busy || (phase === IdePhase.Reset && !reset)) throw new Error("a drive stays busy");
    }
    this.count("rest");
  }
}

test(`${OPERATIONS.toLocaleString("en")} operations on the whole function, seed ${SEED}`, async () => {
  const fuzz = new Fuzz();
  for (let round = 0; fuzz.operations < OPERATIONS; round++) {
    await fuzz.step();
    if (round % 4096 === 0) fuzz.checkGuards();
  }
  fuzz.checkGuards();
  const reached = [...fuzz.counts.keys()];
  console.log(
    `${fuzz.operations} operations, ${reached.length} kinds, ${fuzz.counts.get("rest")} rests, ${fuzz.requests} block requests`,
  );
  for (const opcode of PACKETS) expect(reached).toContain(`packet ${opcode.toString(16)}`);
  expect(reached.filter((what) => what.startsWith("command")).length).toBe(256);
  expect(fuzz.counts.get("restore")).toBeGreaterThan(50);
  expect(fuzz.requests).toBeGreaterThan(fuzz.operations / 1000);
}, 900_000);
