// The data port moves words inside a DRQ block without the core. Whatever mixture of widths, runs and looks at other registers
// a guest comes with, it must tell the same as word after word does.
import { expect, test } from "vitest";
import { AtaPort, AtaRegister, AtaStatus } from "../../../../assembly/spec/ata.ts";
import { IdeField } from "../../../../assembly/spec/ide.ts";
import type { Width } from "../../../../src/core/machine.ts";
import { attachIde } from "../../../../src/host/device/ide/controller.ts";
import { LabMachine } from "../../../../src/hypervisor/machine.ts";
import { IDLE } from "../../../support/ata-disk.ts";
import { IdeBench, pattern } from "../../../support/ide.ts";
import { Random } from "../../../support/random.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const PORT = AtaPort.PrimaryCommand;
const RAM = 0x10000;
const SECTORS = 64;
/** Where the state that is saved has IdeField.Event. */
const EVENT = (IdeField.Event - IdeField.Selected) / 4;

function bench() {
  const block = new SparseBlock(SECTORS * 512);
  block.poke(0, pattern(SECTORS * 512, 5));
  return Object.assign(new IdeBench([[block]]), { block });
}

/** Every word by an access of its own, of 16 bits where it matters. */
function one(ide: IdeBench, write: boolean, width: Width, count: number): number[] {
  const seen: number[] = [];
  for (let i = 0; i < count; i++) {
    if (write) ide.write(AtaRegister.Data, Math.imul(i + 1, 0x01234567) >>> (32 - 8 * width), width);
    else seen.push(ide.read(AtaRegister.Data, width));
  }
  return seen;
}

/** The same accesses as one string instruction. */
function string({ cpu }: IdeBench, write: boolean, width: Width, count: number): number[] {
  if (write) {
    for (let i = 0; i < count; i++) {
      const value = Math.imul(i + 1, 0x01234567) >>> (32 - 8 * width);
      for (let byte = 0; byte < width; byte++) cpu.ram.write8(RAM + i * width + byte, value >>> (8 * byte));
    }
    cpu.outs(PORT, width, RAM, count);
    return [];
  }
  cpu.ins(PORT, width, RAM, count);
  return Array.from({ length: count }, (_, i) => {
    let value = 0;
    for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + cpu.ram.read8(RAM + i * width + byte);
    return value;
  });
}

/** A channel as it would be saved, but for what its last call happened to answer, and its devices' clocks. */
function inside({ controller }: IdeBench): string {
  const { words, buffer, asked } = controller.save().channels[0];
  return JSON.stringify([words.map((word, i) => (i === EVENT ? 0 : word)), buffer, asked]);
}

test("100 random mixtures of widths and strings, mid-block saves: the same data, state and disk as one by one", () => {
  let inBlock = 0;
  for (let seed = 1; seed <= 100; seed++) {
    const random = new Random(seed);
    const sides = [bench(), bench()];
    const write = random.oneIn(2);
    const multiple = random.oneIn(2);
    const code = write ? (multiple ? 0xc5 : 0x30) : multiple ? 0xc4 : 0x20;
    const [lba, count] = [random.below(SECTORS - 20), 1 + random.below(20)];
    for (const ide of sides) ide.command28(code, lba, count);
    for (let step = 0; step < 40 && sides[0].altStatus & AtaStatus.DataRequest; step++) {
      const width = random.pick([1, 2, 2, 2, 4, 4] as Width[]);
      const accesses = random.pick([1, 2, 3, 100, 127, 128, 255, 256, 257, 1000]);
      const seen = [one(sides[0], write, width, accesses), string(sides[1], write, width, accesses)];
      if (String(seen[1]) !== String(seen[0])) expect([seed, step, ...seen[1]]).toEqual([seed, step, ...seen[0]]);
      const [first, second] = sides.map(inside);
      expect(second).toBe(first);
      if (sides[0].altStatus & AtaStatus.DataRequest) inBlock++;
      expect(sides[1].status).toBe(sides[0].status);
      if (random.oneIn(30)) {
        for (const ide of sides) for (const control of [4, 0]) ide.write(AtaRegister.Control, control);
      }
    }
    const [first, second] = sides.map(({ block }) => block.peek(0, SECTORS * 512));
    expect(Buffer.compare(first, second)).toBe(0);
  }
  expect(inBlock).toBeGreaterThan(500);
});

test("a string is one exit, however many blocks it crosses; what is over reads as an idle port does", () => {
  const ide = bench();
  ide.command28(0x20, 3, 4);
  const { portReads } = ide.machine.exits;
  ide.cpu.ram.bytes(RAM, 5 * 512).fill(0xee);
  ide.cpu.ins(PORT, 2, RAM, 5 * 256);
  expect(ide.machine.exits.portReads).toBe(portReads + 1);
  expect(ide.cpu.ram.bytes(RAM, 4 * 512)).toEqual(pattern(SECTORS * 512, 5).slice(3 * 512, 7 * 512));
  expect(ide.cpu.ram.bytes(RAM + 4 * 512, 512)).toEqual(new Uint8Array(512));
  expect(ide.status).toBe(IDLE);
  // A port that nobody claims, and one that is no stream.
  ide.cpu.ins(0x60, 2, RAM, 3);
  expect([...ide.cpu.ram.bytes(RAM, 6)]).toEqual(new Array(6).fill(0xff));
  ide.cpu.ins(PORT + 7, 1, RAM, 3);
  expect([...ide.cpu.ram.bytes(RAM, 3)]).toEqual(new Array(3).fill(IDLE));
});

test("a memory that grows in the middle of a block takes nothing of it away", () => {
  const machine = new LabMachine({ memory: 1 << 20 });
  const pages = machine.memory.wasm.buffer.byteLength >>> 16;
  const wasm = new WebAssembly.Memory({ initial: pages, maximum: pages + 8 });
  Object.assign(machine.memory, { wasm, linear: new Uint8Array(wasm.buffer) });
  const block = new SparseBlock(SECTORS * 512);
  block.poke(0, pattern(SECTORS * 512, 5));
  const { channels } = attachIde(machine, { drives: [[block]], slot: 1 });
  for (const [code, width] of [
    [0x20, 2],
    [0x20, 4],
    [0x30, 2],
    [0x30, 4],
  ] as const) {
    const task = [0, 1, 7, 0, 0, 0xe0, code].entries();
    for (const [i, value] of task) channels[0].write((i + 1) as AtaRegister, 1, value);
    const got: number[] = [];
    for (let at = 0; at < 512; at += width) {
      if (at === 100) wasm.grow(1);
      if (code === 0x20) got.push(channels[0].read(AtaRegister.Data, width));
      else channels[0].write(AtaRegister.Data, width, at * 0x10001);
    }
    expect(channels[0].read(AtaRegister.Status, 1)).toBe(IDLE);
    const bytes = block.peek(7 * 512, 512);
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const want = Array.from({ length: 512 / width }, (_, i) => {
      if (code === 0x30) return width === 4 ? i * 4 * 0x10001 : i * 2;
      return width === 4 ? view.getUint32(i * 4, true) : view.getUint16(i * 2, true);
    });
    const disk = want.map((_, i) => (width === 4 ? view.getUint32(i * 4, true) : view.getUint16(i * 2, true)));
    expect(code === 0x20 ? got : disk).toEqual(want);
  }
});
