// A machine that is saved and restored at random moments of a random program, and one that is not, tell their guest the same:
// registers, data, memory, interrupts, disk contents.
import { describe, expect, test, vi } from "vitest";
import { AtaControl, AtaRegister, AtaStatus, Prd } from "../../../../assembly/spec/ata.ts";
import { attachIde, type IdeController } from "../../../../src/host/device/ide/controller.ts";
import type { IdeState } from "../../../../src/host/device/ide/save.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { FAILED, IDLE } from "../../../support/ata-disk.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { LabClock } from "../../../support/lab-clock.ts";
import { Random } from "../../../support/random.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";
import { tier } from "../../../support/tier.ts";

const RAM = 1 << 20;
const SECTORS = 4000;
const TABLE = 0x80000;
const READABLE = [1, 2, 3, 4, 5, 6, 8, 16, 18] as AtaRegister[];

/** One guest: a disk and a CompactFlash card on the primary channel, a CD drive on the secondary. */
class Side {
  readonly blocks = [new SparseBlock(SECTORS * 512), new SparseBlock(SECTORS * 512), new SparseBlock(2048 * 500)];
  readonly disc = cdFromBlock(this.blocks[2]);
  clock!: LabClock;
  machine!: LabMachine;
  controller!: IdeController;
  benches!: IdeBench[];

  constructor() {
    this.blocks[0].poke(0, pattern(SECTORS * 512, 1));
    this.blocks[1].poke(0, pattern(SECTORS * 512, 2));
    this.blocks[2].poke(0, pattern(2048 * 500, 3));
    this.#boot();
  }

  /** Saves, throws the machine away and goes on in another. */
  replace(): IdeState {
    const state = JSON.parse(JSON.stringify(this.controller.save())) as IdeState;
    const ram = this.machine.guest.ram.bytes(0, RAM).slice();
    for (const block of this.blocks) block.forget();
    this.#boot();
    this.machine.guest.ram.bytes(0, RAM).set(ram);
    expect(this.controller.restore(state)).toBeUndefined();
    return state;
  }

  #boot(): void {
    this.clock = new LabClock();
    this.machine = Object.assign(new LabMachine({ memory: RAM }), { clock: this.clock });
    const drives = [[this.blocks[0], { block: this.blocks[1], kind: "compact-flash" as const }], [{ cd: this.disc }]];
    this.controller = attachIde(this.machine, { drives, slot: 1 });
    this.benches = ([0, 1] as const).map((channel) =>
      Object.assign(Object.create(IdeBench.prototype), {
        machine: this.machine,
        cpu: this.machine.guest,
        channel,
        registers: this.controller.channels[channel],
      }),
    );
    this.benches[0].setBusMaster(true);
  }

  /** What a guest can see without changing it. */
  get view(): number[] {
    return this.benches.flatMap((bench) => [...READABLE.map((register) => bench.read(register)), bench.irq ? 1 : 0]);
  }

  /** Something in flight, and a reset or abort that waits for it. */
  get isEnding(): boolean {
    return this.controller.save().channels.some(({ asked, words }) => asked && (words[4] === 5 || words[25] !== 0));
  }

  async settle(): Promise<void> {
    for (const block of this.blocks) await block.release();
    for (let tick = 0; tick < 30; tick++) await Promise.resolve();
  }
}

/** A step of the program, to be done on each side; what it reads comes back. */
type Step = (side: Side) => number[] | undefined | Promise<void>;

function step(random: Random): Step {
  const channel = random.oneIn(3) ? 1 : 0;
  const drive = channel === 1 ? 0 : random.below(2);
  const on =
    (go: (bench: IdeBench) => unknown): Step =>
    (side) =>
      go(side.benches[channel]) as number[] | undefined;
  const what = random.below(20);
  const [count, lba] = [random.pick([1, 1, 2, 5, 16, 20]), random.below(SECTORS + 10)];
  if (what < 3 && channel === 0) {
    const code = random.pick([0x20, 0x30, 0xc4, 0xc5, 0x40, 0x24, 0x34]);
    const ext = code === 0x24 || code === 0x34;
    return on((ide) => (ext ? ide.command48(code, lba, count, drive) : ide.command28(code, lba, count, drive)));
  }
  if (what < 6) {
    const code = random.pick([0xc8, 0xca, 0x25, 0x35]);
    const bytes = random.pick([count * 512, count * 512, 512, 65536]);
    const early = random.oneIn(2);
    const start = random.oneIn(6) ? 0 : 1;
    const packet = [0x28, 0, 0, 0, 0, random.below(200), 0, 0, random.below(6)];
    return on((ide) => {
      // A table that changes under a transfer would be walked twice; no driver does that, and BMIDE says nothing of it.
      if (ide.altStatus & (AtaStatus.Busy | AtaStatus.DataRequest)) return;
      const table = TABLE + channel * 4096;
      ide.prds(table, [[random1(lba), Prd.EndOfTable | (bytes & 0xffff)]]);
      ide.write(AtaRegister.BmCommand, 0);
      ide.write(AtaRegister.BmTable, table, 4);
      if (early) ide.write(AtaRegister.BmCommand, 8 | start);
      if (channel === 1) sendPacket(ide, packet, 1, 0);
      else if (code < 0x40) ide.command48(code, lba, count, drive);
      else ide.command28(code, lba, count, drive);
      if (!early) ide.write(AtaRegister.BmCommand, 8 | start);
    });
  }
  if (what < 8 && channel === 1) {
    const packet = random.pick([
      [0x28, 0, 0, 0, 0, random.below(255), 0, 0, random.below(5)],
      [0x12, 0, 0, 0, 36],
      [0x03, 0, 0, 0, 18],
      [0x43, 0, 0, 0, 0, 0, 0, 0, 200],
      [0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 100],
      [0x00],
      [0x1b, 0, 0, 0, random.below(4)],
      [0x55, 0x10, 0, 0, 0, 0, 0, 0, 20],
      [0xff],
    ]);
    return on((ide) => sendPacket(ide, packet, 0, random.pick([2048, 1000, 65534, 6])));
  }
  if (what < 10 && channel === 0) {
    const [code, features, high] = random.pick([
      [0xb0, 0xd4, 0xc24f01],
      [0xb0, 0xd4, 0xc24f81],
      [0xb0, 0xd0, 0xc24f00],
      [0xb0, 0xd6, 0xc24f85],
      [0xb0, 0xd5, 0xc24f85],
      [0xf1, 0, 0],
      [0xf3, 0, 0],
      [0xf4, 0, 0],
      [0xe4, 0, 0],
      [0xe8, 0, 0],
      [0x45, 0xaa, lba],
      [0xf8, 0, 0],
      [0xf9, 0, 3000],
      [0xc6, 0, 0],
      [0xef, random.pick([2, 0x82, 0xaa, 0x55, 0x05, 0x85]), 0],
      [0xe7, 0, 0],
      [0xe0, 0, 0],
      [0xec, 0, 0],
    ]);
    return on((ide) => {
      ide.write(AtaRegister.Device, 0xe0 | (drive << 4));
      ide.write(AtaRegister.Features, features);
      ide.write(AtaRegister.Count, random.pick([1, 2, 4]));
      for (const i of [0, 1, 2]) ide.write((3 + i) as AtaRegister, (high >> (8 * i)) & 0xff);
      ide.write(AtaRegister.Command, code);
    });
  }
  if (what < 14) {
    const most = random.pick([3, 100, 256, 600, 5000]);
    const width = random.pick([2, 2, 4] as const);
    return on((ide) => {
      const seen: number[] = [];
      // Both ways: the one that does not apply is ignored.
      for (let i = 0; i < most && (ide.altStatus & AtaStatus.DataRequest) !== 0; i++) {
        ide.write(AtaRegister.Data, (i * 0x101) & 0xffff, 2);
        seen.push(ide.read(AtaRegister.Data, width));
      }
      return seen;
    });
  }
  if (what < 16) return on((ide) => [ide.read(AtaRegister.Status), ide.write(AtaRegister.BmStatus, 6) ?? 0]);
  if (what === 16) {
    const ms = random.pick([0, 1, 7, 400]);
    return (side) => side.clock.pass(ms) as undefined;
  }
  if (what === 17) {
    const held = random.oneIn(2);
    return async (side) => {
      for (const block of side.blocks) block.held = held;
      // What waits for a disk that no longer does would be done at once if it were asked again.
      if (!held) await side.settle();
    };
  }
  if (what === 18) return (side) => side.settle();
  const reset = random.oneIn(3);
  return on((ide) => {
    if (reset) ide.write(AtaRegister.Control, AtaControl.SoftwareReset);
    if (!reset || !random.oneIn(3)) ide.write(AtaRegister.Control, random.oneIn(4) ? 2 : 0);
    if (random.oneIn(5)) ide.write(AtaRegister.Command, random.pick([0x08, 0xe1]));
  });
}

/** Somewhere in RAM, from what the step knows. */
function random1(seed: number): number {
  return 0x10000 + (seed % 512) * 256;
}

function sendPacket(ide: IdeBench, packet: number[], features: number, limit: number): void {
  ide.write(AtaRegister.Device, 0xa0);
  ide.write(AtaRegister.Features, features);
  ide.write(AtaRegister.LbaMid, limit & 0xff);
  ide.write(AtaRegister.LbaHigh, limit >> 8);
  ide.write(AtaRegister.Command, 0xa0);
  if ((ide.altStatus & AtaStatus.DataRequest) === 0) return;
  for (let i = 0; i < 12; i += 2) ide.write(AtaRegister.Data, (packet[i] ?? 0) | ((packet[i + 1] ?? 0) << 8), 2);
}

const PROGRAMS = tier(40, 3000);
vi.setConfig({ testTimeout: tier(300_000, 3_600_000) });

test(`${PROGRAMS} random programs, saved and restored anywhere, tell no difference`, async () => {
  const moments = new Map<string, number>();
  let restores = 0;
  for (let seed = 1; seed <= PROGRAMS; seed++) {
    const sides = [new Side(), new Side()];
    // One generator a side, in step: a step may draw while it runs.
    const [mine, theirs, when] = [new Random(seed), new Random(seed), new Random(seed + 1e6)];
    for (let i = 0; i < 80; i++) {
      const results = [await step(mine)(sides[0]), await step(theirs)(sides[1])];
      const views = sides.map((side) => side.view);
      if (String(results[0]) !== String(results[1]) || String(views[0]) !== String(views[1]))
        expect({ seed, i, result: results[1], view: views[1] }).toEqual({
          seed,
          i,
          result: results[0],
          view: views[0],
        });
      // A reset that waits for the old disk has nothing to wait for in a new machine: see below.
      if (!when.oneIn(4) || sides[1].isEnding) continue;
      const state = sides[1].replace();
      restores++;
      for (const { asked, words } of state.channels) {
        const moment = `phase ${words[4]}, ${asked ?? "nothing"} in flight`;
        moments.set(moment, (moments.get(moment) ?? 0) + 1);
      }
      expect(sides[1].view).toEqual(views[0]);
    }
    for (const side of sides) for (const block of side.blocks) block.held = false;
    for (const side of sides) await side.settle();
    expect(sides[1].view).toEqual(sides[0].view);
    expect(Buffer.compare(sides[0].machine.guest.ram.bytes(0, RAM), sides[1].machine.guest.ram.bytes(0, RAM))).toBe(0);
    for (const i of [0, 1]) {
      const [a, b] = sides.map((side) => side.blocks[i].peek(0, SECTORS * 512));
      expect(Buffer.compare(a, b)).toBe(0);
    }
  }
  console.log(`${restores} restores: ${[...moments].map(([what, times]) => `${what}: ${times}`).join("; ")}`);
  const reached = [
    "0, nothing",
    "1, io",
    "1, execute",
    "2, nothing",
    "3, nothing",
    "4, nothing",
    "4, io",
    "5, nothing",
  ];
  for (const moment of reached) expect([moment, moments.has(`phase ${moment} in flight`)]).toEqual([moment, true]);
});

describe("restore", () => {
  const drives = () => [[new SparseBlock(1 << 20)]];

  test("on a controller that has something in flight waits for it, and drops it", async () => {
    const ide = new IdeBench(drives());
    const state = ide.controller.save();
    const disk = new SparseBlock(1 << 20);
    const busy = new IdeBench([[disk]]);
    disk.held = true;
    busy.command28(0x20, 0, 1);
    const restoring = busy.controller.restore(state);
    expect(restoring).toBeInstanceOf(Promise);
    await disk.release();
    await restoring;
    expect([busy.irq, busy.status]).toEqual([false, IDLE]);
    disk.held = false;
    busy.command28(0x20, 0, 1);
    expect(busy.drain()).toHaveLength(512);
  });

  test.each([["SRST"], ["IDLE IMMEDIATE"]])(
    "%s that waited for a write is over, and nothing of the write is left",
    (how) => {
      const disk = new SparseBlock(1 << 20);
      disk.held = true;
      const first = new IdeBench([[disk]]);
      first.command28(0x30, 7, 1);
      first.feed(pattern(512, 3));
      if (how === "SRST") {
        first.write(AtaRegister.Control, 4);
        first.write(AtaRegister.Control, 0);
      } else first.write(AtaRegister.Command, 0xe1);
      expect(first.altStatus).toBe(AtaStatus.Busy);
      const state = first.controller.save();
      disk.forget();
      disk.held = false;
      const second = new IdeBench([[disk]]);
      second.controller.restore(state);
      expect([second.irq, second.status]).toEqual([how !== "SRST", IDLE]);
      expect(disk.peek(7 * 512, 512)).toEqual(new Uint8Array(512));
    },
  );

  test("a stopped command is stopped again, or goes through when the cause is gone", () => {
    const disk = new SparseBlock(1 << 20);
    disk.room = 0;
    const options = { block: disk, onError: { write: "stop" as const } };
    const first = new IdeBench([[options]]);
    first.command28(0x30, 7, 1);
    first.feed(pattern(512, 3));
    expect(first.controller.stopped).toBe(true);
    const state = first.controller.save();
    const second = new IdeBench([[options]]);
    second.controller.restore(state);
    expect([second.controller.stopped, second.altStatus & AtaStatus.Busy]).toEqual([true, AtaStatus.Busy]);
    disk.room = 9;
    const third = new IdeBench([[options]]);
    third.controller.restore(state);
    expect([third.irq, third.status]).toEqual([true, IDLE]);
    expect(disk.peek(7 * 512, 512)).toEqual(pattern(512, 3));
  });

  test("passwords, protected area, logs and the rest of a drive's memory come along", () => {
    const first = new IdeBench(drives());
    const password = new Uint8Array(512);
    password[2] = 9;
    first.write(AtaRegister.Command, 0xf1);
    first.feed(password);
    first.write(AtaRegister.Command, 0xf8);
    first.command28(0xf9, 99, 1);
    first.command48(0x45, 50, 1);
    const state = JSON.parse(JSON.stringify(first.controller.save()));
    const second = new IdeBench(drives());
    second.controller.restore(state);
    second.command28(0x20, 100, 1);
    expect(second.status).toBe(FAILED);
    second.machine.reset();
    second.write(AtaRegister.Device, 0xe0);
    second.write(AtaRegister.Command, 0xf2);
    second.feed(password);
    expect(second.status).toBe(IDLE);
  });

  test.each<[string, (state: IdeState) => void]>([
    ["another version", (state) => Object.assign(state, { version: 2 })],
    ["a buffer that ends outside", (state) => (state.channels[0].words[19] = 70000)],
    ["a phase that is none", (state) => (state.channels[0].words[4] = 9)],
    ["a third drive selected", (state) => (state.channels[0].words[0] = 2)],
    ["words missing", (state) => state.channels[0].words.pop()],
    ["another kind of drive", (state) => (state.channels[1].words[29] = 2)],
    ["larger sectors", (state) => (state.channels[0].words[29 + 32] = 4096)],
    ["something in flight that was not asked", (state) => (state.channels[0].asked = "io")],
    ["a unit that is none", (state) => (state.channels[0].words[21] = 1e9)],
  ])("%s is refused, and nothing has changed", (_name, spoil) => {
    const ide = new IdeBench(drives());
    const state = JSON.parse(JSON.stringify(ide.controller.save()));
    spoil(state);
    expect(() => ide.controller.restore(state)).toThrow(expect.objectContaining({ code: "INVALID" }));
    ide.command28(0x20, 0, 1);
    expect(ide.drain()).toHaveLength(512);
    expect(ide.status).toBe(IDLE);
  });
});
