import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { V86 } from "v86";
import { afterEach, expect, test } from "vitest";
import { AtaPort } from "../../assembly/spec/ata.ts";
import { cdFromBlock, createDisk, MemoryStore, ParavaneError } from "../../src/index.ts";
import { attach, type V86Disks, type V86Machine } from "../../src/v86/index.ts";
import type { V86Cpu } from "../../src/v86/internals.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { held } from "../support/held-block.ts";

const WASM = join(dirname(createRequire(import.meta.url).resolve("v86")), "v86.wasm");
const open: V86[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.destroy();
});

interface Rig {
  emulator: V86;
  cpu: V86Cpu;
  disks: V86Disks;
  machine: V86Machine;
  in: (port: number) => number;
  out: (port: number, value: number) => void;
}

/** v86 with its processor standing still. */
async function rig(
  settings: object = {},
  ide: Parameters<typeof attach>[1]["ide"] = [],
  more: Omit<Parameters<typeof attach>[1], "ide"> = {},
): Promise<Rig> {
  const emulator = new V86({ wasm_path: WASM, memory_size: 16 << 20, vga_memory_size: 1 << 20, ...settings });
  open.push(emulator);
  const disks = attach(emulator, { ide, ...more });
  await disks.ready;
  const { cpu } = (emulator as unknown as { v86: { cpu: V86Cpu } }).v86;
  const io = cpu.io as unknown as {
    port_read8(port: number): number;
    port_write8(port: number, value: number): void;
  };
  return {
    ...{ emulator, cpu, disks, machine: disks.machine! },
    in: (port) => io.port_read8(port),
    out: (port, value) => io.port_write8(port, value),
  };
}

const disk = () => createDisk(new MemoryStore(), { format: "raw", size: 1 << 20 });
/** As a driver does, by configuration mechanism #1. */
function config({ cpu }: Rig, slot: number, register: number, value?: number): number {
  const io = cpu.io as unknown as {
    port_read32(port: number): number;
    port_write32(port: number, value: number): void;
  };
  const select = () => io.port_write32(0xcf8, 0x80000000 | (slot << 11) | register | 0);
  select();
  if (value !== undefined) io.port_write32(0xcfc, value | 0);
  select();
  return io.port_read32(0xcfc) >>> 0;
}

/** The second 8259A, whose ports v86 keeps to its WebAssembly: its struct starts with mask, map, ISR, IRR; ELCR is at 10. */
function secondPic({ cpu }: Rig): Uint8Array {
  const at = (cpu as unknown as { get_pic_addr_slave(): number }).get_pic_addr_slave();
  return new Uint8Array(cpu.wasm_memory.buffer, at, 11);
}
const requested = (it: Rig) => secondPic(it)[3];
const makeLevel = (it: Rig, lines: number) => {
  secondPic(it)[10] = lines;
};

test("our IDE controller stands where v86's stood", async () => {
  const it = await rig({}, [[await disk()]]);
  it.out(AtaPort.PrimaryCommand + 6, 0xa0);
  expect(it.in(AtaPort.PrimaryCommand + 7)).toBe(0x50);
  expect(config(it, 0x1e, 0)).toBe(0x71118086);
  // IDENTIFY DEVICE: word 0 of a hard disk, then the size in words 60 and 61.
  it.out(AtaPort.PrimaryCommand + 7, 0xec);
  const io = it.cpu.io as unknown as { port_read16(port: number): number };
  const words = Array.from({ length: 256 }, () => io.port_read16(AtaPort.PrimaryCommand));
  expect(words[0] & 0x8000).toBe(0);
  expect(words[60] + words[61] * 65536).toBe(2048);
});

test("a window moves with its BAR, and v86's own windows do not take it along", async () => {
  const it = await rig();
  const device = { readPort: (port: number) => port & 0xff, writePort() {} };
  const made = it.machine.pci.attach({
    ...{ vendor: 0x1af4, device: 0x1042, classCode: 0x010000, interrupt: 11 },
    bars: [{ kind: "io", size: 32, base: 0xe800, device }],
  });
  expect(it.in(0xe807)).toBe(7);
  expect(config(it, made.slot, 0x10, 0xffffffff)).toBe(0xffffffe1);
  config(it, made.slot, 0x10, 0xd001);
  expect(it.in(0xe807)).toBe(0xff);
  expect(it.in(0xd007)).toBe(7);
  // v86's NE2000 in slot 5 is moved away from there, as its firmware may have it at that moment.
  config(it, 5, 0x10, 0xd001);
  config(it, 5, 0x10, 0xc001);
  expect(it.in(0xd007)).toBe(7);
  made.detach();
  expect(it.in(0xd007)).toBe(0xff);
});

test("configuration registers of ours are read when the guest reads them, in its width, and not by being selected", async () => {
  const it = await rig();
  const seen: string[] = [];
  const live = {
    readConfig(_: Uint8Array, offset: number, width: number) {
      seen.push(`${width} at ${offset}`);
      return 0x80000001;
    },
    writeConfig() {},
  };
  const made = it.machine.pci.attach({
    ...{ vendor: 0x1af4, device: 0x1042, classCode: 0x010000, bars: [] },
    capabilities: [{ bytes: Uint8Array.of(9, 0, 8, 0, 0, 0, 0, 0), live: { from: 4, device: live } }],
  });
  const io = it.cpu.io as unknown as Record<"port_read8" | "port_read16" | "port_read32", (port: number) => number> & {
    port_write32(port: number, value: number): void;
  };
  io.port_write32(0xcf8, 0x80000000 | (made.slot << 11) | 0x44);
  expect([io.port_read32(0xcf8) >>> 0, seen]).toEqual([0x80000000, []]);
  expect(io.port_read32(0xcfc) >>> 0).toBe(0x80000001);
  expect([io.port_read16(0xcfe), io.port_read8(0xcff)]).toEqual([1, 1]);
  expect(seen).toEqual(["4 at 0", "2 at 2", "1 at 3"]);
  // v86's own are v86's own, and all are once ours are gone.
  expect(config(it, 1, 0)).toBe(0x70008086);
  made.detach();
  expect(config(it, made.slot, 0)).toBe(0xffffffff);
});

test("a memory window has its own widths, and leaves the rest of v86's block alone", async () => {
  const it = await rig();
  const seen: string[] = [];
  const release = it.machine.mmio.register(0xfebe0100, 0x100, {
    readMmio(offset, width) {
      seen.push(`r${width} ${offset}`);
      return 0x80000001;
    },
    writeMmio: (offset, width, value) => seen.push(`w${width} ${offset} ${value.toString(16)}`),
  });
  const cpu = it.cpu as unknown as Record<"mmap_read8" | "mmap_read32", (at: number) => number> &
    Record<"mmap_write8" | "mmap_write16" | "mmap_write32", (at: number, value: number) => void>;
  expect(cpu.mmap_read32(0xfebe0104 | 0) >>> 0).toBe(0x80000001);
  cpu.mmap_write8(0xfebe0101 | 0, 0xfe);
  cpu.mmap_write16(0xfebe0102 | 0, 0xfedc);
  cpu.mmap_write32(0xfebe01fc | 0, -2);
  expect(cpu.mmap_read8(0xfebe0200 | 0)).not.toBe(1);
  expect(seen).toEqual(["r4 4", "w1 1 fe", "w2 2 fedc", "w4 252 fffffffe"]);
  expect(() => it.machine.mmio.register(0xfebe01f0, 0x100, { readMmio: () => 0, writeMmio() {} })).toThrow(/taken/);
  expect(() => it.machine.mmio.register(1 << 20, 0x100, { readMmio: () => 0, writeMmio() {} })).toThrow(
    /inside guest RAM/,
  );
  release();
  expect(cpu.mmap_read32(0xfebe0104 | 0)).toBe(-1);
});

test("sources on a line are ORed, v86's own among them", async () => {
  const it = await rig();
  const [one, two] = [it.machine.interrupt(11), it.machine.interrupt(11)];
  // Level-triggered, as a PCI line is.
  makeLevel(it, 0x08);
  const level = () => (requested(it) >> 3) & 1;
  it.cpu.device_raise_irq(11);
  one.set(true);
  it.cpu.device_lower_irq(11);
  expect(level()).toBe(1);
  two.set(true);
  one.set(false);
  expect(level()).toBe(1);
  two.set(false);
  expect(level()).toBe(0);
});

test("INTA# goes where the router sends it, also after the guest has changed its mind", async () => {
  const it = await rig();
  makeLevel(it, 0x0c);
  const made = it.machine.pci.attach({
    ...{ slot: 9, vendor: 0x1af4, device: 0x1042, classCode: 0x010000, interrupt: 5, bars: [] },
  });
  config(it, 1, 0x60, 0x0a0a0a0a);
  made.interrupt.set(true);
  expect(requested(it)).toBe(0x04);
  config(it, 1, 0x60, 0x0b0b0b0b);
  expect(requested(it)).toBe(0x08);
  made.interrupt.set(false);
  expect(requested(it)).toBe(0);
});

test("device state lies in v86's memory but outside the guest's, which keeps its contents", async () => {
  const it = await rig();
  const { memory } = it.machine;
  memory.linear[memory.base + 0x5000] = 0x5a;
  const places = Array.from({ length: 40 }, () => memory.reserve(100_000));
  for (const at of places) {
    expect(at + 100_000 <= memory.base || at >= memory.base + memory.size).toBe(true);
    expect(memory.linear.subarray(at, at + 100_000).every((byte) => byte === 0)).toBe(true);
    memory.linear.fill(1, at, at + 100_000);
  }
  expect(it.emulator.read_memory(0x5000, 1)[0]).toBe(0x5a);
});

test("a reset reaches the devices and their configuration", async () => {
  const it = await rig({}, [[await disk()]]);
  config(it, 0x1e, 0x20, 0xd001);
  it.out(AtaPort.PrimaryCommand + 2, 0x77);
  it.emulator.restart();
  expect(config(it, 0x1e, 0x20)).toBe(0xc001);
  expect(it.in(AtaPort.PrimaryCommand + 2)).toBe(1);
});

test("a saved state holds the devices, and goes into another emulator", async () => {
  const one = await rig({}, [[await disk()]]);
  config(one, 0x1e, 0x20, 0xd001);
  one.out(AtaPort.PrimaryCommand + 2, 0x77);
  const state = await one.emulator.save_state();
  const two = await rig({}, [[await disk()]]);
  await two.emulator.restore_state(state);
  expect(config(two, 0x1e, 0x20)).toBe(0xd001);
  expect(two.in(AtaPort.PrimaryCommand + 2)).toBe(0x77);
  const other = await rig();
  await other.disks.close();
  const bare = await other.emulator.save_state();
  await expect(two.emulator.restore_state(bare)).rejects.toThrow(/saved without these disks/);
});

test("a restore waits for what is under way at that moment, and the guest with it", async () => {
  const { block, release } = held(new FakeBlock(1 << 20));
  const it = await rig({ autostart: true }, [[block]]);
  const state = await it.emulator.save_state();
  readFirst(it);
  let isOver = false;
  const restoring = it.emulator.restore_state(state).then(() => {
    isOver = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([isOver, it.emulator.is_running()]).toEqual([false, false]);
  await release();
  await restoring;
  expect([it.in(AtaPort.PrimaryCommand + 7), it.emulator.is_running()]).toEqual([0x50, true]);
  await it.emulator.stop();
});

test("virtio and PVSCSI disks are on the PCI bus, and saved states hold them", async () => {
  const options = async () => ({
    virtio: [await disk(), { block: await disk(), identity: "second" }],
    pvscsi: [await disk()],
  });
  const one = await rig({}, undefined, await options());
  const slots = Array.from({ length: 32 }, (_, slot) => [slot, config(one, slot, 0)]);
  expect(slots.filter(([, id]) => id === 0x10421af4).length).toBe(2);
  const [[adapter]] = slots.filter(([, id]) => id === 0x07c015ad);
  expect(one.disks.virtio.length).toBe(2);
  config(one, adapter, 0x10, 0xfea00000);
  const state = await one.emulator.save_state();
  const two = await rig({}, undefined, await options());
  await two.emulator.restore_state(state);
  expect(config(two, adapter, 0x10)).toBe(0xfea00000);
  const others = [{ virtio: [await disk()], pvscsi: [await disk()] }, { virtio: [await disk(), await disk()] }, {}];
  for (const each of others) {
    const { emulator } = await rig({}, undefined, each);
    await expect(emulator.restore_state(state)).rejects.toMatchObject({ code: "INVALID" });
  }
});

test("a filter is a disk as it is, whatever it calls what it lies over", async () => {
  class Filter extends FakeBlock {
    readonly block = new FakeBlock(1 << 20);
  }
  const it = await rig({}, [[new Filter(2 << 20)]]);
  // IDENTIFY DEVICE, words 60 and 61.
  it.out(AtaPort.PrimaryCommand + 6, 0xa0);
  it.out(AtaPort.PrimaryCommand + 7, 0xec);
  const io = it.cpu.io as unknown as { port_read16(port: number): number };
  const words = Array.from({ length: 256 }, () => io.port_read16(AtaPort.PrimaryCommand));
  expect(words[60]).toBe(4096);
});

/** READ SECTORS of sector 0 of the first disk. */
function readFirst(it: Rig): void {
  for (const [register, value] of [
    [6, 0xe0],
    [2, 1],
    [3, 0],
    [4, 0],
    [5, 0],
    [7, 0x20],
  ])
    it.out(AtaPort.PrimaryCommand + register, value);
}

test("what a disk has under way when v86's memory grows still arrives", async () => {
  const disk = new FakeBlock(1 << 20);
  disk.bytes.fill(0x5a);
  const { block, release } = held(disk);
  const it = await rig({}, [[block]]);
  const command = AtaPort.PrimaryCommand;
  readFirst(it);
  it.cpu.wasm_memory.grow(1);
  await release();
  await release();
  expect(it.in(command + 7)).toBe(0x58);
  expect((it.cpu.io as unknown as { port_read16(port: number): number }).port_read16(command)).toBe(0x5a5a);
});

/** A command of 12 bytes to the master of the secondary channel, by PIO or DMA. */
function packet(it: Rig, bytes: readonly number[], dma: boolean): void {
  const command = AtaPort.SecondaryCommand;
  const io = it.cpu.io as unknown as { port_write16(port: number, value: number): void };
  it.out(command + 6, 0xa0);
  it.out(command + 1, dma ? 1 : 0);
  // Byte count limit.
  it.out(command + 4, 0x00);
  it.out(command + 5, 0xf8);
  it.out(command + 7, 0xa0);
  for (let i = 0; i < 12; i += 2) io.port_write16(command, (bytes[i] ?? 0) | ((bytes[i + 1] ?? 0) << 8));
}

/** READ (10) of sector 3, and READ CD of all that it consists of: 8 words of header come first. */
const READ_10 = [0x28, 0, 0, 0, 0, 3, 0, 0, 1];
const READ_CD = [0xbe, 0, 0, 0, 0, 3, 0, 0, 1, 0xf8];

test.each([
  ["by PIO", READ_10, false, 0],
  ["by DMA", READ_10, true, 0],
  ["with its header and ECC", READ_CD, false, 8],
] as const)("what a CD has under way when v86's memory grows still arrives: %s", async (_, command, dma, header) => {
  const disc = new FakeBlock(64 * 2048);
  disc.bytes.fill(0x5a);
  const { block, release } = held(disc);
  const it = await rig({}, [[], [{ cd: cdFromBlock(block) }]]);
  const { memory } = it.machine;
  const [table, buffer, master] = [0x1000, 0x8000, 0xc000];
  if (dma) {
    config(it, 0x1e, 4, 5);
    const io = it.cpu.io as unknown as { port_write32(port: number, value: number): void };
    new DataView(memory.wasm.buffer).setUint32(memory.base + table, buffer, true);
    new DataView(memory.wasm.buffer).setUint32(memory.base + table + 4, 0x80000000 | 2048, true);
    io.port_write32(master + 12, table);
  }
  packet(it, command, dma);
  // The bus master reads from the drive.
  if (dma) it.out(master + 8, 9);
  // Twice, in case that it is the second time that is forgotten.
  for (let times = 0; times < 3; times++) {
    if (times < 2) it.cpu.wasm_memory.grow(1);
    await release();
    for (let tick = 0; tick < 20; tick++) await null;
  }
  expect(it.in(AtaPort.SecondaryCommand + 7)).toBe(dma ? 0x50 : 0x58);
  const io = it.cpu.io as unknown as { port_read16(port: number): number };
  const bytes = dma
    ? memory.linear.slice(memory.base + buffer, memory.base + buffer + 2048)
    : Uint8Array.from({ length: 1024 + header }, () => io.port_read16(AtaPort.SecondaryCommand) & 0xff);
  expect(new Set(bytes.subarray(header))).toEqual(new Set([0x5a]));
});

test("a cartridge that is put in later is as steady as what was there", async () => {
  const cartridge = new FakeBlock(1 << 20);
  cartridge.bytes.fill(0xa5);
  const { block, release } = held(cartridge);
  const it = await rig({}, [[{ block: await disk(), removable: true }]]);
  const slot = it.disks.ide!.cartridge(0, 0);
  slot.insert(block);
  expect([slot.isPresent, slot.isLocked]).toEqual([true, false]);
  // The first command hears of the change.
  for (let tries = 0; tries < 2; tries++) readFirst(it);
  it.cpu.wasm_memory.grow(1);
  await release();
  await release();
  expect(it.in(AtaPort.PrimaryCommand + 7)).toBe(0x58);
  const io = it.cpu.io as unknown as { port_read16(port: number): number };
  expect(io.port_read16(AtaPort.PrimaryCommand)).toBe(0xa5a5);
});

test("a v86 with disks of its own is told what to leave out", async () => {
  const emulator = new V86({ wasm_path: WASM, memory_size: 16 << 20, hda: { buffer: new ArrayBuffer(1 << 20) } });
  open.push(emulator);
  const { ready } = attach(emulator, { ide: [[await disk()]] });
  await expect(ready).rejects.toThrow(ParavaneError);
  await expect(ready).rejects.toThrow(/disks or a CD of its own/);
});

test("another version of v86 is told what it lacks", async () => {
  const it = await rig();
  await it.disks.close();
  Object.assign(it.cpu, { jit_dirty_cache: undefined });
  expect(() => attach(it.emulator, { ide: [] })).toThrow(/does not have cpu\.jit_dirty_cache/);
});

test("closed, all is as it was", async () => {
  const it = await rig({}, [[await disk()]]);
  const raise = it.cpu.device_raise_irq;
  await it.disks.close();
  expect(it.in(AtaPort.PrimaryCommand + 7)).toBe(0xff);
  expect(config(it, 0x1e, 0)).toBe(0xffffffff);
  expect(it.cpu.device_raise_irq).not.toBe(raise);
});
