import { expect, test } from "vitest";
import { RequestField, SegmentField, TableField } from "../../assembly/spec/request.ts";
import { BlkType, DeviceStatus, Feature, Mmio } from "../../assembly/spec/virtio.ts";
import { VqDevice } from "../../assembly/spec/virtqueue.ts";
import { attachVirtioBlk, type VirtioBlkDevice } from "../../src/host/device/virtio/attach.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { type Core, coreFor, PAGE } from "../../src/wasm/core.ts";
import { type Count, FuzzDisk, type Pick, random } from "../support/fuzz-disk.ts";
import { VirtqueueJudge } from "../support/virtqueue-judge.ts";
import type { VirtqueueModel } from "../support/virtqueue-model.ts";

const STEPS = 1_000_000;
const SEED = Number(process.env.FUZZ_SEED ?? 20240607);
const WINDOW = { base: 0xd0000000, interrupt: 5 };
const RAM = 1 << 20;
/** Where this guest keeps things, for want of hostility. */
const AT = { rings: 0x8000, headers: 0x10000, tables: 0x20000, data: 0x40000 };

/** What must have happened at least once, or the fuzz has not been where it should. */
const OUTCOMES = [
  ...["read", "write", "flush", "discard", "write zeroes", "GET_ID", "several ranges", "split header", "indirect"],
  ...["address", "empty", "order", "nested indirect", "header", "type", "length", "range", "read-only", "payload"],
  ...["fault: available index", "fault: head", "fault: head busy", "fault: next", "fault: loop", "fault: indirect"],
  ...["fault: indirect length", "fault: indirect range", "fault: too long", "fault: no status"],
  ...["status ok", "status ioerr", "status unsupp", "table full", "queue full", "index wrapped"],
  ...["interrupt by event", "none by event", "interrupt by flag", "none by flag", "more", "no more"],
  ...["done at once", "done later", "done out of order", "reset in flight", "dropped after reset", "written through"],
  ...["needs reset", "driver ok", "features refused", "queue refused", "configuration changed", "machine reset"],
];

/** One guest that keeps no rule, its device, and the judge of every call the device makes to the core. */
class Guest {
  readonly #machine: LabMachine;
  readonly #disk: FuzzDisk;
  readonly #device: VirtioBlkDevice;
  readonly #core: Core;
  readonly #model: VirtqueueModel;
  readonly #view: DataView;
  readonly #pick: Pick;
  readonly #count: Count;
  readonly #outside: Uint8Array;
  #size = 16;
  #available = 0;
  #used = 0;
  #index = 0;
  /** Next descriptor; descriptors written since the last notification. */
  #cursor = 0;
  #fresh = 0;

  constructor(pick: Pick, count: Count, sectorSize: number, readOnly: boolean) {
    this.#pick = pick;
    this.#count = count;
    this.#machine = new LabMachine({ memory: RAM, hostMemory: 2 * PAGE });
    const { memory } = this.#machine;
    const { base, size, wasm } = memory;
    this.#disk = new FuzzDisk(pick, count, sectorSize, readOnly, () => [base, base + size]);
    this.#device = attachVirtioBlk(this.#machine, this.#disk, { ...WINDOW, identity: "hostile guest's disk" });
    this.#core = coreFor(wasm);
    this.#model = new VirtqueueJudge(memory, PAGE, count).model;
    this.#view = new DataView(wasm.buffer);
    memory.linear.fill(0xa5, memory.reserve(16), base);
    this.#outside = memory.linear.slice(0, base);
    this.#machine.guest.onInterrupt(WINDOW.interrupt, () => this.#interrupt());
    this.#boot();
  }

  /** One thing the guest does, or that happens to it. */
  async step(): Promise<void> {
    const pick = this.#pick;
    if (this.#disk.broken) throw new Error(this.#disk.broken);
    const running =
      (this.#read(Mmio.Status) & (DeviceStatus.NeedsReset | DeviceStatus.DriverOk)) === DeviceStatus.DriverOk;
    if (!running && pick(3) === 0) {
      if (pick(2) === 0) await this.#release();
      this.#boot();
    }
    const what = pick(100);
    if (what < 50) this.#request();
    else if (what < 75) this.#kick();
    else if (what < 82) this.#scribble();
    else if (what < 88) this.#event();
    else if (what < 92) this.#poke();
    else if (what === 99 && pick(4) === 0) this.#boot();
    else if (what === 98 && pick(40) === 0) this.#burst();
    else if (what === 97 && pick(40) === 0) this.#reset();
    else if (what === 96 && pick(10) === 0) this.#resize();
    else await this.#release();
  }

  async drain(): Promise<void> {
    while (this.#disk.held.length > 0) await this.#release();
    await this.#device.close();
  }

  /** Everything below guest RAM but the device's context and table: as it was. */
  check(): void {
    const { linear, base } = this.#machine.memory;
    const now = Buffer.from(linear.buffer, 0, base);
    const own = VqDevice.Size + TableField.Records + 288 * RequestField.Size + 2048 * SegmentField.Size;
    this.#outside.set(linear.subarray(PAGE, PAGE + own + 64), PAGE);
    if (!now.equals(this.#outside)) throw new Error("memory outside guest RAM and the device's own changed");
  }

  #read(register: number): number {
    return this.#machine.guest.load(WINDOW.base + register, 4);
  }
  #write(register: number, value: number): void {
    this.#machine.guest.store(WINDOW.base + register, 4, value >>> 0);
  }
  #u16(address: number, value: number): void {
    if (address + 2 <= RAM) this.#view.setUint16(this.#machine.memory.base + address, value & 0xffff, true);
  }
  #u32(address: number, value: number): void {
    if (address + 4 <= RAM) this.#view.setUint32(this.#machine.memory.base + address, value >>> 0, true);
  }

  #boot(): void {
    const pick = this.#pick;
    if (this.#disk.held.length > 0) this.#count("reset in flight");
    this.#write(Mmio.Status, 0);
    if (this.#read(Mmio.Status) !== 0) return;
    this.#write(Mmio.Status, 3);
    this.#write(Mmio.DeviceFeaturesSelect, 0);
    let features = this.#read(Mmio.DeviceFeatures);
    for (const bit of [Feature.IndirectDescriptors, Feature.EventIndex, Feature.BlkFlush, Feature.BlkConfigWce]) {
      if (pick(4) === 0) features &= ~(1 << bit);
    }
    if (pick(40) === 0) features |= 1 << pick(32);
    this.#write(Mmio.DriverFeaturesSelect, 0);
    this.#write(Mmio.DriverFeatures, features);
    this.#write(Mmio.DriverFeaturesSelect, 1);
    this.#write(Mmio.DriverFeatures, pick(40) === 0 ? pick(4) : 1);
    this.#write(Mmio.Status, 3 | DeviceStatus.FeaturesOk);
    if ((this.#read(Mmio.Status) & DeviceStatus.FeaturesOk) === 0) this.#count("features refused");

    this.#size = pick(30) === 0 ? pick(300) : 1 << pick(6);
    this.#available = AT.rings + this.#size * 16;
    this.#used = (this.#available + 6 + this.#size * 2 + 3) & ~3;
    let [descriptors, high] = [AT.rings, 0];
    if (pick(40) === 0) descriptors = this.#address();
    if (pick(40) === 0) this.#used = this.#address();
    if (pick(60) === 0) high = pick(2);
    if (pick(12) === 0) this.#write(Mmio.ConfigGeneration, pick(2));
    this.#write(Mmio.QueueSelect, 0);
    this.#write(Mmio.QueueSize, this.#size);
    this.#write(Mmio.QueueDescriptorsLow, descriptors);
    this.#write(Mmio.QueueDescriptorsHigh, high);
    this.#write(Mmio.QueueDriverLow, this.#available);
    this.#write(Mmio.QueueDeviceLow, this.#used);
    this.#write(Mmio.QueueReady, 1);
    if (this.#read(Mmio.QueueReady) !== 1) this.#count("queue refused");
    this.#write(Mmio.Status, 3 | DeviceStatus.FeaturesOk | DeviceStatus.DriverOk);
    this.#cursor = this.#fresh = this.#index = 0;
    if (this.#core.get(PAGE + VqDevice.Stamp) === 0 && this.#read(Mmio.Status) & DeviceStatus.DriverOk) {
      // As though the queue had been at work for long: free-running indexes are somewhere, often close to wrapping.
      this.#count("driver ok");
      this.#index = pick(2) === 0 ? 0xffff - pick(20) : pick(65536);
      this.#core.set(PAGE + VqDevice.LastAvailable, this.#index);
      this.#core.set(PAGE + VqDevice.UsedIndex, this.#index);
      this.#model.restart(this.#index);
    }
    this.#u16(this.#available + 2, this.#index);
  }

  #interrupt(): void {
    const pick = this.#pick;
    const causes = this.#read(Mmio.InterruptStatus);
    if (pick(20) > 0) this.#write(Mmio.InterruptAcknowledge, causes);
    else this.#write(Mmio.InterruptAcknowledge, 0xffffffff);
    if ((causes & 2) !== 0)
      this.#count(this.#read(Mmio.Status) & DeviceStatus.NeedsReset ? "needs reset" : "configuration changed");
    // A handler may do anything, too.
    if (pick(8) === 0) this.#kick();
    if (pick(300) === 0) this.#boot();
  }

  #kick(): void {
    this.#fresh = 0;
    this.#write(Mmio.QueueNotify, this.#pick(50) === 0 ? this.#pick(3) : 0);
  }

  /** Any address, mostly close to one that means something. */
  #address(): number {
    const pick = this.#pick;
    const near = [0, AT.rings, AT.headers, AT.tables, AT.data, RAM, 0xffffffff, 0x80000000][pick(8)];
    return (near + pick(64) - 32) >>> 0;
  }

  /** A chain as some driver would write it, or with one thing wrong; made available, perhaps notified. */
  #request(): void {
    const pick = this.#pick;
    const header = AT.headers + 64 * pick(256);
    const types = [BlkType.In, BlkType.In, BlkType.Out, BlkType.Out, BlkType.Flush, BlkType.GetId, BlkType.Discard];
    const type = [...types, BlkType.WriteZeroes, pick(32)][pick(9)];
    const unit = this.#disk.sectorSize;
    this.#u32(header, type);
    this.#u32(
      header + 8,
      pick(20) === 0 ? pick(0xffffffff) : ((unit / 512) * pick(70 * (4096 / unit))) | (pick(40) === 0 ? 1 : 0),
    );
    this.#u32(header + 12, pick(60) === 0 ? pick(0xffffffff) : 0);
    // Elements: address, length, flags without Next.
    const elements: number[][] = [];
    if (pick(6) > 0) elements.push([header, 16, 0]);
    else {
      const at = 1 + pick(15);
      elements.push([header, at, 0], [header + at, 16 - at, 0]);
      this.#count("split header");
    }
    const data = AT.data + 4 * pick(10_000);
    if (type === BlkType.Discard || type === BlkType.WriteZeroes) {
      const ranges = pick(3) > 0 ? 1 : 1 + pick(pick(8) === 0 ? 40 : 4);
      for (let i = 0; i < ranges; i++) {
        this.#u32(data + 16 * i, (unit / 512) * pick(60));
        this.#u32(data + 16 * i + 4, 0);
        this.#u32(data + 16 * i + 8, (unit / 512) * pick(4));
        this.#u32(data + 16 * i + 12, pick(12) === 0 ? pick(3) : 0);
      }
      const cut = pick(4) === 0 ? 1 + pick(15) : 0;
      if (cut > 0) elements.push([data, cut, 0]);
      elements.push([data + cut, 16 * ranges - cut - (pick(20) === 0 ? 1 : 0), 0]);
    } else {
      const write = type === BlkType.In || type === BlkType.GetId ? 2 : 0;
      const wide = pick(200) === 0 ? 250 : 4;
      for (let i = pick(wide); i > 0; i--) elements.push([data + unit * i, unit, write]);
      if (write && pick(6) === 0) elements.push([data, unit + 1, 2]);
    }
    if (elements[elements.length - 1][2] === 0 || pick(5) > 0) elements.push([header + 32, 1, 2]);
    const wrong = elements[pick(elements.length)];
    if (pick(24) === 0) {
      const kind = pick(7);
      if (kind === 0) wrong[0] = this.#address();
      else if (kind === 1) wrong[1] = [0, 1, 15, 0xffffffff, pick(0xffffffff)][pick(5)];
      else if (kind === 2) wrong[2] ^= 2;
      else if (kind === 3) elements.pop();
      else if (kind === 4) wrong[2] |= 4;
      else if (kind === 5) elements.push([...wrong]);
      else elements.unshift([...wrong]);
    }
    const indirect = elements.length > this.#size || pick(2) === 0;
    const needed = indirect ? 1 : elements.length;
    if (this.#fresh + needed > this.#size && pick(200) > 0) this.#kick();
    if (elements.length === 0) return;
    if (indirect) this.#indirect(elements);
    else this.#publish(elements);
    if (pick(3) === 0) this.#kick();
  }

  #indirect(elements: number[][]): void {
    const pick = this.#pick;
    const table = AT.tables + 4096 * pick(8);
    this.#describe(table, elements, (i) => i, elements.length);
    let [address, length, flags] = [table, elements.length * 16, 4];
    if (pick(40) === 0) {
      const kind = pick(5);
      if (kind === 0) address = this.#address();
      else if (kind === 1) length = [0, 8, length + 8, 257 * 16, 0xfffffff0, 256 * 16][pick(6)];
      else if (kind === 2) flags |= 1;
      else if (kind === 3) length = Math.max(16, length - 16);
      else flags |= 2;
    }
    this.#count("indirect");
    const before = pick(20) === 0 ? [elements[0]] : [];
    if (pick(2000) === 0) {
      this.#describe(table, new Array(256).fill([AT.data, 512, 2]), (i) => i, 256);
      length = 4096;
      before.push(elements[0]);
    }
    this.#publish([...before, [address, length, flags]]);
  }

  /** Writes descriptors, `place` saying where the i-th goes, and now and then a link that leads elsewhere. */
  #describe(table: number, elements: number[][], place: (i: number) => number, limit: number): void {
    const pick = this.#pick;
    const stray = pick(250) === 0 ? pick(elements.length) : -1;
    for (let i = 0; i < elements.length; i++) {
      const [address, length, flags] = elements[i];
      const at = table + 16 * place(i);
      const last = i === elements.length - 1;
      this.#u32(at, address);
      this.#u32(at + 4, pick(3000) === 0 ? pick(0xffffffff) : 0);
      this.#u32(at + 8, length);
      this.#u16(at + 12, flags | (last && i !== stray ? 0 : 1) | (pick(3000) === 0 ? 1 << pick(16) : 0));
      this.#u16(at + 14, i === stray ? [pick(limit), limit, pick(65536)][pick(3)] : place(i + 1));
    }
  }

  #publish(elements: number[][]): void {
    const pick = this.#pick;
    // Around heads that are in flight, mostly.
    for (let i = 0; i < this.#size && pick(300) > 0 && this.#model.inFlight.has(this.#cursor); i++) {
      this.#cursor = (this.#cursor + 1) % this.#size;
    }
    const head = this.#cursor;
    this.#describe(AT.rings, elements, (i) => (head + i) % (this.#size || 1), this.#size);
    this.#cursor = (head + elements.length) % (this.#size || 1);
    this.#fresh += elements.length;
    const entry = pick(800) === 0 ? pick(65536) : head;
    this.#u16(this.#available + 4 + 2 * (this.#index % (this.#size || 1)), entry);
    this.#index = (this.#index + 1) & 0xffff;
    this.#u16(this.#available + 2, this.#index);
  }

  /** More than one table holds: the widest discards, or reads of many pieces, as many as the queue takes. */
  #burst(): void {
    const pick = this.#pick;
    if (this.#size < 16 || this.#model.inFlight.size > 0) return;
    this.#kick();
    const discard = pick(2) === 0 && !this.#disk.readOnly;
    this.#u32(AT.headers, discard ? BlkType.Discard : BlkType.In);
    this.#u32(AT.headers + 8, 0);
    this.#u32(AT.headers + 12, 0);
    this.#machine.guest.ram.bytes(AT.data, 512).fill(0);
    const elements = [[AT.headers, 16, 0]];
    if (discard) elements.push([AT.data, 512, 0]);
    else for (let i = 0; i < 240; i++) elements.push([AT.data + 4096 * (i % 64), 512, 2]);
    elements.push([AT.headers + 32, 1, 2]);
    const table = AT.tables;
    this.#describe(table, elements, (i) => i, elements.length);
    for (let i = 0; i < this.#size; i++) this.#publish([[table, elements.length * 16, 4]]);
    this.#kick();
  }

  /** Words of the rings, the tables, the headers. */
  #scribble(): void {
    const pick = this.#pick;
    const place = [AT.rings, this.#available, AT.headers, AT.tables, AT.data][pick(5)];
    for (let i = pick(4); i > 0; i--) this.#u32(place + 4 * pick(64), pick(3) === 0 ? pick(0xffffffff) : pick(64));
    if (place === this.#available) this.#u16(this.#available + 2, this.#index);
  }

  /** Wishes about interrupts; and an index that is nonsense. */
  #event(): void {
    const pick = this.#pick;
    this.#u16(this.#available + 4 + 2 * this.#size, this.#model.used + pick(6) - 2);
    this.#u16(this.#available, pick(3) === 0 ? 1 : 0);
    if (pick(300) === 0) this.#u16(this.#available + 2, pick(65536));
  }

  /** Registers and configuration at random, at any width. Not zero to Status: that is `#boot`. */
  #poke(): void {
    const pick = this.#pick;
    const offset = pick(3) === 0 ? 0x100 + pick(0x100) : 4 * pick(64);
    const width = ([1, 2, 4, 4] as const)[pick(4)];
    if (pick(2) === 0) {
      const value = this.#machine.guest.load(WINDOW.base + offset, width);
      if (!(value >= 0 && value < 2 ** (8 * width))) throw new Error(`register ${offset} reads ${value}`);
      return;
    }
    const value = [0, 1, pick(256), this.#address(), pick(0xffffffff)][pick(5)];
    if (offset === Mmio.Status) this.#write(offset, value | 1);
    else this.#machine.guest.store(WINDOW.base + offset, width, value);
  }

  #reset(): void {
    if (this.#disk.held.length > 0) this.#count("reset in flight");
    this.#count("machine reset");
    this.#machine.reset();
  }

  #resize(): void {
    this.#disk.size = 4096 * (32 + this.#pick(64));
    this.#device.resized();
  }

  async #release(): Promise<void> {
    const { held } = this.#disk;
    if (held.length === 0) return;
    const at = this.#pick(held.length);
    if (at > 0) this.#count("done out of order");
    held.splice(at, 1)[0]();
    const stopping = this.#core.get(PAGE + VqDevice.Stamp);
    const used = this.#model.used;
    for (let i = 0; i < 6; i++) await null;
    this.#count(this.#model.used === used && stopping !== 0 ? "dropped after reset" : "done later");
  }
}

test("a hostile driver, a million times", { timeout: 120_000 }, async () => {
  const counts = new Map<string, number>();
  const count = (outcome: string) => counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  const pick = random(SEED);
  const guests = [
    new Guest(pick, count, 512, false),
    new Guest(pick, count, 4096, false),
    new Guest(pick, count, 512, true),
  ];
  for (let step = 0; step < STEPS; step++) {
    await guests[step % guests.length].step();
    if (step % 4096 === 0) for (const guest of guests) guest.check();
  }
  for (const guest of guests) {
    await guest.drain();
    guest.check();
  }
  const width = Math.max(...OUTCOMES.map((outcome) => outcome.length));
  console.log(OUTCOMES.map((outcome) => `${outcome.padEnd(width)} ${counts.get(outcome) ?? 0}`).join("\n"));
  expect(OUTCOMES.filter((outcome) => !counts.get(outcome))).toEqual([]);
});
