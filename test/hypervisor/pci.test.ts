import { expect, test } from "vitest";
import { PciCommand, PciConfig } from "../../assembly/spec/pci.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";

function attach() {
  const machine = new LabMachine({ memory: 1 << 20 });
  const seen: string[] = [];
  const device = machine.pci.attach({
    slot: 3,
    vendor: 0x8086,
    device: 0x7010,
    classCode: 0x010180,
    interrupt: 11,
    bars: [
      null,
      null,
      null,
      null,
      {
        kind: "io",
        size: 16,
        base: 0xe800,
        device: {
          readPort: (port) => port & 0xff,
          writePort: (port, _w, value) => seen.push(`${port.toString(16)}=${value}`),
        },
      },
    ],
    capabilities: [Uint8Array.of(9, 0, 4, 1), Uint8Array.of(9, 0, 4, 2)],
  });
  const config = {
    select: (slot: number, register: number) =>
      machine.guest.out(0xcf8, 4, (0x80000000 | (slot << 11) | (register & 0xfc)) >>> 0),
    read: (register: number, width: 1 | 2 | 4) => {
      config.select(3, register);
      return machine.guest.in(0xcfc + (register & 3), width);
    },
    write: (register: number, width: 1 | 2 | 4, value: number) => {
      config.select(3, register);
      machine.guest.out(0xcfc + (register & 3), width, value);
    },
  };
  return { machine, config, seen, device };
}

test("a guest finds the function by vendor, class and interrupt line", () => {
  const { config, machine } = attach();
  expect(config.read(PciConfig.VendorId, 4)).toBe(0x70108086);
  expect(config.read(PciConfig.RevisionId, 4) >>> 8).toBe(0x010180);
  expect(config.read(PciConfig.InterruptLine, 2)).toBe(0x010b);
  config.select(4, 0);
  expect(machine.guest.in(0xcfc, 4)).toBe(0xffffffff);
});

test("a BAR answers its size to all ones, then moves its device", () => {
  const { config, machine, seen } = attach();
  expect(config.read(0x20, 4)).toBe(0xe801);
  config.write(0x20, 4, 0xffffffff);
  expect(config.read(0x20, 4)).toBe(0xfffffff1);
  config.write(0x20, 4, 0xc000);
  expect(machine.guest.in(0xe800, 1)).toBe(0xff);
  machine.guest.out(0xc002, 1, 7);
  expect(seen).toEqual(["e802=7"]);
});

test("decoding off means nobody answers", () => {
  const { config, machine } = attach();
  config.write(PciConfig.Command, 2, 0);
  expect(machine.guest.in(0xe800, 1)).toBe(0xff);
  config.write(PciConfig.Command, 2, 1);
  expect(machine.guest.in(0xe801, 1)).toBe(1);
});

test("identity is read-only and capabilities are chained", () => {
  const { config } = attach();
  config.write(PciConfig.VendorId, 4, 0);
  expect(config.read(PciConfig.VendorId, 2)).toBe(0x8086);
  const first = config.read(PciConfig.CapabilitiesPointer, 1);
  const second = config.read(first + 1, 1);
  expect([config.read(first + 3, 1), config.read(second + 3, 1), config.read(second + 1, 1)]).toEqual([1, 2, 0]);
});

test("disabling INTA# and enabling it again moves a line that is asserted", () => {
  const { machine, config, device } = attach();
  let calls = 0;
  machine.guest.onInterrupt(11, () => {
    calls++;
    config.write(PciConfig.Command, 2, PciCommand.IoSpace | PciCommand.InterruptDisable);
  });
  device.interrupt.set(true);
  expect(calls).toBe(1);
  config.write(PciConfig.Command, 2, PciCommand.IoSpace);
  expect(calls).toBe(2);
  device.interrupt.set(false);
  config.write(PciConfig.Command, 2, PciCommand.IoSpace);
  expect(calls).toBe(2);
});
