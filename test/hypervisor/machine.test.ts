import { expect, test } from "vitest";
import { Hypervisor } from "../../src/hypervisor/hypervisor.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { GuestRam, LinearMemory } from "../../src/hypervisor/memory.ts";
import { PAGE } from "../../src/wasm/core.ts";

test("guest RAM starts past the host's region and never at linear 0", () => {
  const memory = new LinearMemory(100_000, 2 * PAGE);
  expect([memory.base, memory.size]).toEqual([3 * PAGE, 2 * PAGE]);
  const ram = new GuestRam(memory);
  ram.write32(0, 0xdeadbeef);
  expect(new DataView(memory.wasm.buffer).getUint32(memory.base, true)).toBe(0xdeadbeef);
  expect(ram.read32(0)).toBe(0xdeadbeef);
});

test("no access reaches past the end of RAM", () => {
  const ram = new GuestRam(new LinearMemory(PAGE));
  for (const access of [
    () => ram.read8(PAGE),
    () => ram.read32(PAGE - 3),
    () => ram.bytes(PAGE - 1, 2),
    () => ram.bytes(-1, 1),
    () => ram.write16(PAGE - 1, 0),
    () => ram.bytes(Number.NaN, 1),
  ]) {
    expect(access).toThrow(expect.objectContaining({ code: "OUT_OF_RANGE" }));
  }
});

test("device state is aligned, zeroed, disjoint, and running out of it says what to do", () => {
  const memory = new LinearMemory(PAGE, PAGE);
  const a = memory.reserve(10);
  const b = memory.reserve(10, 4096);
  expect(a % 16).toBe(0);
  expect(b % 4096).toBe(0);
  expect(b).toBeGreaterThanOrEqual(a + 10);
  expect(() => memory.reserve(PAGE)).toThrow(
    expect.objectContaining({ code: "NO_SPACE", hint: expect.stringContaining("hostMemory") }),
  );
});

test("a freed page is given out again, zeroed", () => {
  const ram = new GuestRam(new LinearMemory(2 << 20));
  const page = ram.allocate(1);
  ram.write8(page + 7, 1);
  ram.free(page, 1);
  expect(ram.allocate(1)).toBe(page);
  expect(ram.read8(page + 7)).toBe(0);
  expect(() => ram.allocate(1000)).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
});

test("every port and memory access is an exit, counted by kind; nobody home reads all ones", () => {
  const machine = new LabMachine({ memory: 1 << 20 });
  const stores: number[][] = [];
  machine.mmio.register(0xd0000000, 0x200, {
    readMmio: (offset) => offset,
    writeMmio: (...args) => stores.push(args),
  });
  const { guest, exits } = machine;
  expect([guest.in(0x60, 1), guest.in(0x60, 2), guest.in(0x60, 4)]).toEqual([0xff, 0xffff, 0xffffffff]);
  guest.out(0x80, 1, 1);
  expect(guest.load(0xd0000010, 4)).toBe(0x10);
  expect(guest.load(0xe0000000, 4)).toBe(0xffffffff);
  guest.store(0xd0000050, 4, 9);
  expect(stores).toEqual([[0x50, 4, 9]]);
  expect(guest.hypercall(32, () => 5)).toBe(5);
  expect({ ...exits }).toEqual({ portReads: 3, portWrites: 1, mmioReads: 2, mmioWrites: 1, hypercalls: 1 });
  expect(exits.total).toBe(8);
});

test("two devices cannot claim one port or window, and RAM is not a window", () => {
  const machine = new LabMachine({ memory: 1 << 20 });
  const nothing = { readPort: () => 0, writePort() {}, readMmio: () => 0, writeMmio() {} };
  const release = machine.ports.register(0x1f0, 8, nothing);
  expect(() => machine.ports.register(0x1f7, 1, nothing)).toThrow(expect.objectContaining({ code: "EXISTS" }));
  release();
  machine.ports.register(0x1f7, 1, nothing);
  machine.mmio.register(0xd0000000, 4096, nothing);
  for (const base of [0xd0000fff, 0x1000]) {
    expect(() => machine.mmio.register(base, 4096, nothing)).toThrow(expect.objectContaining({ code: "EXISTS" }));
  }
});

test("guests of one hypervisor have their own domain, RAM, exits and interrupts", () => {
  const hypervisor = new Hypervisor();
  const [a, b] = [hypervisor.createMachine({ memory: 1 << 20 }), hypervisor.createMachine({ memory: 1 << 20 })];
  expect([a.domain, b.domain]).toEqual([1, 2]);
  a.guest.ram.write8(0x5000, 1);
  a.guest.out(0x80, 1, 0);
  expect(b.guest.ram.read8(0x5000)).toBe(0);
  expect([a.exits.total, b.exits.total]).toEqual([1, 0]);
  expect(hypervisor.machine(2)).toBe(b);
});

test("reset reaches every device that asked", () => {
  const machine = new LabMachine({ memory: 1 << 20 });
  let resets = 0;
  const release = machine.onReset(() => resets++);
  machine.reset();
  release();
  machine.reset();
  expect(resets).toBe(1);
});
