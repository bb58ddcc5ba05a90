import { expect, test } from "vitest";
import { PvscsiRegister, PvscsiRequest, PvscsiRings } from "../../assembly/spec/pvscsi.ts";
import { PvscsiContext, PvscsiDone } from "../../assembly/spec/pvscsi-context.ts";
import { ScsiOp } from "../../assembly/spec/scsi.ts";
import { coreFor, PAGE } from "../../src/wasm/core.ts";
import { HostileBlock } from "../support/hostile-block.ts";
import { AT, BASE, RawPvscsi } from "../support/pvscsi.ts";
import { Random } from "../support/random.ts";

const STEPS = 1_000_000;
const SEED = Number(process.env.FUZZ_SEED ?? 20260727);
const RAM = 2 << 20;
const SECTORS = 96;

/** What must have happened at least once, or the fuzz has not been where it should. */
const OUTCOMES = [
  ...["host 0", "host 17", "host 18", "host 26", "host 29", "host 37", "host 38"],
  ...["key 0", "key 3", "key 4", "key 5", "key 6", "key 7"],
  ...["rings set up", "rings refused", "messages set up", "reset in flight", "aborted in flight", "ring full"],
  ...["plugged", "unplugged", "machine reset", "restored", "restored in flight", "done later"],
];

const OPS = [
  ...[ScsiOp.Read10, ScsiOp.Read10, ScsiOp.Write10, ScsiOp.Write10, ScsiOp.Read6, ScsiOp.Write6, ScsiOp.Read12],
  ...[ScsiOp.Write12, ScsiOp.Read16, ScsiOp.Write16, ScsiOp.TestUnitReady, ScsiOp.Inquiry, ScsiOp.RequestSense],
  ...[ScsiOp.ModeSense6, ScsiOp.ModeSense10, ScsiOp.ReadCapacity10, ScsiOp.ServiceActionIn16, ScsiOp.ReportLuns],
  ...[ScsiOp.Unmap, ScsiOp.WriteSame10, ScsiOp.WriteSame16, ScsiOp.Verify10, ScsiOp.SynchronizeCache10],
  ...[ScsiOp.StartStopUnit],
];

/** A guest that keeps no rule, its adapter with disks that fail and take their time, and what must hold all the same. */
class Hostile {
  readonly #random: Random;
  readonly #count: (outcome: string) => void;
  readonly #raw: RawPvscsi;
  readonly #disks: HostileBlock[];
  readonly #outside: Uint8Array;
  #entries = 32;
  #pushed = 0;
  /** Set up, or not; restores pending. */
  #restoring: Promise<void>[] = [];

  constructor(random: Random, count: (outcome: string) => void) {
    this.#random = random;
    this.#count = count;
    let raw: RawPvscsi | undefined;
    const mayTouch = (memory: Uint8Array, start: number, length: number) => {
      const ram = raw?.machine.memory;
      // The device's own buffers, or guest RAM and nothing beside it.
      if (!ram || memory.buffer !== ram.wasm.buffer) return start + length <= memory.length;
      return start >= ram.base && start + length <= ram.base + ram.size;
    };
    this.#disks = [512, 512, 4096].map((size) => new HostileBlock(SECTORS, size, random, mayTouch));
    raw = new RawPvscsi(this.#disks, RAM);
    this.#raw = raw;
    const { memory } = raw.machine;
    const core = coreFor(memory.wasm);
    const { pvscsiComplete } = core.call;
    const calls = { ...core.call };
    calls.pvscsiComplete = (ctx, n) => {
      for (let i = 0; i < n; i++) {
        const at = ctx + PvscsiContext.Done + i * PvscsiDone.Size;
        const status = core.get(at + PvscsiDone.Status);
        count(`host ${status & 0xffff}`);
        if (status >>> 16 === 0) count("key 0");
        else if (n === 1) count(`key ${memory.linear[memory.base + AT.sense + 2] & 15}`);
      }
      return pvscsiComplete(ctx, n);
    };
    Object.defineProperty(core, "call", { value: calls });
    memory.linear.fill(0xa5, memory.reserve(16), memory.base);
    this.#outside = memory.linear.slice(0, memory.base);
    this.#boot();
  }

  async step(): Promise<void> {
    const random = this.#random;
    const what = random.below(1000);
    if (what < 560) this.#push();
    else if (what < 780) this.#kick();
    else if (what < 840) this.#scribble();
    else if (what < 900) this.#poke();
    else if (what < 920) this.#raw.write(PvscsiRegister.InterruptStatus, random.u32());
    else if (what < 990) await this.#release();
    else if (what < 994) this.#boot();
    else if (what < 996) this.#command();
    else if (what < 997) this.#plug();
    else if (what < 998) await this.#restore();
    else if (random.oneIn(2)) this.#burst();
    else {
      if (this.#waiting) this.#count("reset in flight");
      this.#count("machine reset");
      this.#raw.machine.reset();
    }
    for (const disk of this.#disks) if (disk.wrong.length > 0) throw new Error(disk.wrong.join("; "));
    this.#inFlightIsBounded();
  }

  async drain(): Promise<void> {
    while (this.#waiting) await this.#release();
    const core = coreFor(this.#raw.machine.memory.wasm);
    expect(core.get(PAGE + PvscsiContext.InFlight)).toBe(0);
    await Promise.all(this.#restoring);
    await this.#raw.device.close();
  }

  /** Everything below guest RAM but the adapter's context: as it was. */
  check(): void {
    const { linear, base } = this.#raw.machine.memory;
    this.#outside.set(linear.subarray(PAGE, PAGE + PvscsiContext.Size), PAGE);
    if (!Buffer.from(linear.buffer, 0, base).equals(this.#outside))
      throw new Error("memory outside guest RAM and the adapter's own changed");
  }

  get #waiting(): boolean {
    return this.#disks.some(({ waiting }) => waiting.length > 0);
  }

  /** All that was taken is under way or completed; never more than the ring holds. */
  #inFlightIsBounded(): void {
    const core = coreFor(this.#raw.machine.memory.wasm);
    const at = PAGE >>> 2;
    const field = (offset: number) => core.u32[at + offset / 4];
    const inFlight = field(PvscsiContext.InFlight);
    const entries = field(PvscsiContext.RequestEntries);
    if (inFlight === entries && entries > 0) this.#count("ring full");
    if (inFlight > entries) throw new Error(`${inFlight} commands in flight`);
    if (((field(PvscsiContext.Consumed) - field(PvscsiContext.Completed)) | 0) !== inFlight)
      throw new Error("a command was lost, or completed twice");
  }

  #boot(): void {
    const random = this.#random;
    if (this.#waiting) this.#count("reset in flight");
    const pages = random.oneIn(8) ? random.below(40) : 1 << random.below(3);
    const status = this.#raw.setUp(pages, random.oneIn(8) ? random.below(40) : 1);
    this.#count(status === 0 ? "rings set up" : "rings refused");
    this.#entries = status === 0 ? pages * 32 : 32;
    this.#pushed = 0;
    if (random.oneIn(2) && this.#raw.setUpMessages(random.oneIn(4) ? random.below(20) : 1) === 34)
      this.#count("messages set up");
  }

  /** Any address, mostly one that means something. */
  #address(): number {
    const random = this.#random;
    const near = random.pick([0, AT.state, AT.requests, AT.lists, AT.sense, AT.data, RAM, 0xffffffff, 0x80000000]);
    return (near + random.below(64) - 32) >>> 0;
  }

  #push(): void {
    const random = this.#random;
    const raw = this.#raw;
    if (this.#pushed >= this.#entries && !random.oneIn(50)) this.#kick();
    const op = random.oneIn(40) ? random.below(256) : random.pick(OPS);
    const cdb = new Array<number>(16).fill(0);
    cdb[0] = op;
    const lba = random.below(SECTORS + 4);
    const blocks = random.below(5);
    const group = op >>> 5;
    if (group === 0) [cdb[3], cdb[4]] = [lba, op === ScsiOp.Inquiry ? random.below(256) : blocks];
    else if (group <= 2) [cdb[5], cdb[8]] = [lba, op === ScsiOp.Unmap ? 8 + 16 * blocks : blocks];
    else if (group === 4) [cdb[9], cdb[13]] = [lba, op === ScsiOp.ServiceActionIn16 ? 32 : blocks];
    else [cdb[5], cdb[9]] = [lba, op === ScsiOp.ReportLuns ? 16 + blocks : blocks];
    if (op === ScsiOp.ServiceActionIn16) cdb[1] = 0x10;
    if (random.oneIn(8)) cdb[1 + random.below(15)] = random.below(256);
    const data = AT.data + 64 * random.below(1024);
    if (op === ScsiOp.Unmap) {
      raw.bytes(data, 8 + 16 * blocks).fill(0);
      raw.bytes(data, 4)[3] = 16 * blocks;
      for (let i = 0; i < blocks; i++) raw.bytes(data + 8 + 16 * i, 16).set([lba, random.below(4)], 7);
      for (let i = 0; i < blocks; i++) raw.bytes(data + 8 + 16 * i, 16).copyWithin(11, 8, 9);
    }
    let address = data;
    let flags = random.oneIn(12) ? random.below(32) : 0;
    const length = random.oneIn(30) ? random.u32() : random.oneIn(4) ? random.below(9000) : 4 * 4096;
    if (random.oneIn(3)) {
      flags |= 1;
      address = this.#list(length);
    } else if (random.oneIn(60)) address = this.#address();
    raw.push({
      cdb,
      cdbLength: random.oneIn(60) ? random.below(256) : 16,
      target: random.oneIn(30) ? random.below(256) : random.below(3),
      bus: random.oneIn(100) ? random.below(3) : 0,
      lun: random.oneIn(40) ? [0, random.below(3)] : [],
      flags,
      address,
      high: random.oneIn(500) ? 1 : 0,
      length: random.oneIn(200) ? 2n ** 64n - 1n : length,
      sense: random.oneIn(60) ? this.#address() : AT.sense,
      senseLength: random.oneIn(20) ? random.u32() : 64,
    });
    this.#pushed++;
    if (random.oneIn(3)) this.#kick();
  }

  /** As many as the ring holds, in one kick. */
  #burst(): void {
    this.#kick();
    for (let i = 0; i < this.#entries; i++) this.#raw.push({ cdb: [ScsiOp.Read6, 0, 0, 0, 1, 0], target: 0 });
    this.#kick();
  }

  #list(length: number): number {
    const random = this.#random;
    const at = AT.lists + 1024 * random.below(64);
    const elements: [number, number, number][] = [];
    let left = Math.min(length, 20000);
    while (left > 0 && elements.length < 20) {
      const part = random.oneIn(5) ? random.below(5000) : 4096;
      elements.push([AT.data + 16 * random.below(8192), part, 0]);
      left -= part;
    }
    if (random.oneIn(6)) {
      const next = random.oneIn(20) ? this.#address() : AT.lists + 1024 * random.below(64);
      elements.push([next, random.u32(), random.oneIn(10) ? random.u32() : 1]);
    }
    if (random.oneIn(20) && elements.length > 0) random.pick(elements)[random.below(3)] = this.#address();
    this.#raw.list(elements, at);
    return at;
  }

  #kick(): void {
    const before = this.#disks.reduce((sum, { requests }) => sum + requests, 0);
    this.#raw.write(this.#random.oneIn(4) ? PvscsiRegister.KickOther : PvscsiRegister.KickReadWrite, 0);
    this.#pushed = 0;
    const asked = this.#disks.reduce((sum, { requests }) => sum + requests, 0) - before;
    // Each entry of the ring once, of 256 ranges at the most.
    if (asked > 1024 * 256) throw new Error(`${asked} requests of one kick`);
  }

  /** Words of the rings, the lists, the state. */
  #scribble(): void {
    const random = this.#random;
    const place = random.pick([AT.state, AT.requests, AT.completions, AT.lists, AT.data]);
    for (let i = random.below(4); i > 0; i--) {
      const at = place + 4 * random.below(64);
      this.#raw.word(at, random.oneIn(3) ? random.u32() : random.below(64));
    }
    if (place === AT.requests) {
      const at = AT.requests + PvscsiRequest.Size * random.below(this.#entries) + 4 * random.below(20);
      this.#raw.word(at, random.u32());
    }
    if (place === AT.state && !random.oneIn(4))
      this.#raw.word(AT.state + PvscsiRings.RequestProducer, this.#raw.produced);
  }

  /** Registers at random, at any width; PCI configuration now and then. */
  #poke(): void {
    const random = this.#random;
    const { guest } = this.#raw.machine;
    const known = [0, 4, 8, 0x100c, 0x2010, 0x3014, 0x3018, 0x4018];
    const offset = random.oneIn(4) ? random.below(0x8000) : random.pick(known);
    const width = random.pick([1, 2, 4, 4] as const);
    if (random.oneIn(2)) {
      const value = guest.load(BASE + offset, width);
      if (!(value >= 0 && value < 2 ** (8 * width))) throw new Error(`register ${offset} reads ${value}`);
    } else if (random.oneIn(40)) {
      guest.out(0xcf8, 4, 0x80000804);
      guest.out(0xcfc, 2, random.below(8));
      guest.out(0xcfc, 2, 7);
    } else guest.store(BASE + offset, width, random.oneIn(3) ? random.u32() : random.below(12));
  }

  #command(): void {
    const random = this.#random;
    const words = Array.from({ length: random.below(140) }, () => (random.oneIn(2) ? random.below(40) : random.u32()));
    const command = random.below(12);
    if (command === 6 && this.#waiting) {
      this.#count("aborted in flight");
      words[0] = this.#raw.nextContext - random.below(8);
      words[1] = 0;
    }
    if ((command === 4 || command === 5) && this.#waiting) this.#count("reset in flight");
    this.#raw.command(command, words);
  }

  #plug(): void {
    const { device } = this.#raw;
    const target = this.#random.below(3);
    if (this.#random.oneIn(2)) device.resized(target);
    else {
      void device.unplug(target);
      this.#count("unplugged");
      device.plug(target, this.#disks[target]);
      this.#count("plugged");
    }
  }

  async #restore(): Promise<void> {
    const { device } = this.#raw;
    const state = structuredClone(device.save());
    this.#count(state.tasks.length > 0 ? "restored in flight" : "restored");
    const restoring = device.restore(state);
    if (!restoring) return;
    while (this.#waiting) await this.#release();
    await restoring;
  }

  async #release(): Promise<void> {
    if (!this.#waiting) return;
    this.#count("done later");
    for (const disk of this.#disks) disk.release();
    for (let i = 0; i < 6; i++) await null;
  }
}

test("a hostile driver, a million times", { timeout: 120_000 }, async () => {
  const counts = new Map<string, number>();
  const count = (outcome: string) => counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const random = new Random(SEED);
  const guest = new Hostile(random, count);
  for (let step = 0; step < STEPS; step++) {
    await guest.step();
    if (step % 4096 === 0) guest.check();
  }
  await guest.drain();
  guest.check();
  const width = Math.max(...OUTCOMES.map((outcome) => outcome.length));
  console.log(OUTCOMES.map((outcome) => `${outcome.padEnd(width)} ${counts.get(outcome) ?? 0}`).join("\n"));
  expect(OUTCOMES.filter((outcome) => !counts.get(outcome))).toEqual([]);
});
