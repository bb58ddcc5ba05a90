import { expect, test } from "vitest";
import { Hypervisor } from "../../../src/hypervisor/hypervisor.ts";

const MIB = 1 << 20;

function boot() {
  const hypervisor = new Hypervisor();
  const machine = hypervisor.createMachine({ memory: 4 * MIB });
  const guest = hypervisor.xenGuest(machine);
  return { hypervisor, machine, guest, table: hypervisor.domain(machine).grants };
}

test("what the guest grants, and only that, can be mapped, by whom and how it said", () => {
  const { machine, guest, table } = boot();
  const page = machine.guest.ram.allocate(1);
  const ref = guest.grants.allocate(1);
  expect(() => table.map(0, ref, false)).toThrow(expect.objectContaining({ code: "DENIED" }));
  guest.grants.grant(ref, 0, page, true);
  expect(table.map(0, ref, false)).toBe(machine.memory.base + page);
  expect(() => table.map(0, ref, true)).toThrow(expect.objectContaining({ code: "DENIED" }));
  expect(() => table.map(2, guest.grants.allocate(1), false)).toThrow(expect.objectContaining({ code: "DENIED" }));
  expect(() => table.map(0, 1e6, false)).toThrow(expect.objectContaining({ code: "DENIED" }));
});

test("access ends only when the last mapping is gone", () => {
  const { machine, guest, table } = boot();
  const ref = guest.grants.allocate(1);
  guest.grants.grant(ref, 0, machine.guest.ram.allocate(1), false);
  table.map(0, ref, true);
  table.map(0, ref, false);
  expect([table.pins(ref), guest.grants.end(ref)]).toEqual([2, false]);
  table.unmap(ref);
  expect(guest.grants.free(ref, 1)).toBe(false);
  table.unmap(ref);
  table.unmap(ref); // one too many does no harm
  expect([table.pins(ref), guest.grants.free(ref, 1)]).toEqual([0, true]);
  expect(guest.grants.allocate(1)).toBe(ref);
});

test("a table is whole pages inside RAM, and stays while grants are mapped", () => {
  const { machine, guest, table } = boot();
  for (const [address, pages] of [
    [100, 1],
    [4 * MIB, 1],
    [4 * MIB - 4096, 2],
    [0, 0],
    [0, 65],
    [-4096, 1],
    [Number.NaN, 1],
  ]) {
    expect(() => table.setup(address, pages)).toThrow(expect.objectContaining({ code: "INVALID" }));
  }
  const ref = guest.grants.allocate(1);
  guest.grants.grant(ref, 0, machine.guest.ram.allocate(1), false);
  table.map(0, ref, false);
  expect(() => table.setup(0, 1)).toThrow(expect.objectContaining({ code: "BUSY" }));
  table.unmap(ref);
  table.setup(0, 1);
  expect(table.entries).toBe(512);
});

test("after a reset no grant is valid, and late unmaps touch neither the guest nor the new table", () => {
  const { machine, hypervisor, guest, table } = boot();
  const ref = guest.grants.allocate(1);
  guest.grants.grant(ref, 0, machine.guest.ram.allocate(1), false);
  table.map(0, ref, false);
  const old = table.context;
  const before = machine.guest.ram.read32(guest.grants.address + ref * 8);
  machine.reset();
  expect(table.entries).toBe(0);
  expect(table.context).not.toBe(old);
  expect(() => table.map(0, ref, false)).toThrow(expect.objectContaining({ code: "DENIED" }));
  const again = hypervisor.xenGuest(machine);
  expect(again).not.toBe(guest);
  expect(table.pins(ref)).toBe(0);
  expect(machine.guest.ram.read32(guest.grants.address + ref * 8)).toBe(before);
});

test("references run out with an error that says so", () => {
  const { guest } = boot();
  expect(() => guest.grants.allocate(guest.grants.available + 1)).toThrow(
    expect.objectContaining({ code: "NO_SPACE" }),
  );
  expect(guest.grants.allocate(guest.grants.available)).toBeGreaterThanOrEqual(8);
});
