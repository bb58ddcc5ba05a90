import { expect, test } from "vitest";
import { Op, Status } from "../../src/core/block.ts";
import { probeAta } from "../../src/guest/ata/probe.ts";
import { createDisk } from "../../src/host/block/open.ts";
import { attachIde } from "../../src/host/device/ide/controller.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { fillPattern, guestRequest, runRequest } from "../support/ata.ts";

const MODELS = [
  { name: "pio", mode: "pio", bare: false },
  { name: "dma", mode: "dma", bare: false },
  { name: "bare", mode: "dma", bare: true },
] as const;

async function boot({ mode, bare }: (typeof MODELS)[number], size = 64 << 20) {
  const machine = new LabMachine({ memory: 8 << 20 });
  const disk = await createDisk(new MemoryStore(), { format: "raw", size });
  const controller = attachIde(machine, { drives: [[disk]] });
  const registers = controller.channels[0];
  const drivers = await probeAta(machine.guest, bare ? { mode, registers } : { mode });
  return { machine, disk, controller, driver: drivers[0], drivers, cpu: machine.guest };
}

test.each(MODELS)("$name: what is written is read back", async (model) => {
  const { cpu, driver, drivers, controller, disk } = await boot(model);
  expect(drivers).toHaveLength(1);
  expect(driver.size).toBe(64 << 20);
  const out = cpu.ram.allocate(4);
  const back = cpu.ram.allocate(4);
  const content = fillPattern(cpu, out, 12288, 7);
  expect(await runRequest(driver, guestRequest(Op.Write, 1 << 20, [out, 12288]))).toBe(Status.Ok);
  expect(await runRequest(driver, guestRequest(Op.Flush, 0))).toBe(Status.Ok);
  expect(await runRequest(driver, guestRequest(Op.Read, 1 << 20, [back, 12288]))).toBe(Status.Ok);
  expect(cpu.ram.bytes(back, 12288)).toEqual(content);
  driver.close();
  await controller.close();
  await disk.close();
});

test.each(MODELS)("$name: the exits of one 4 KiB read", async (model) => {
  const { machine, cpu, driver } = await boot(model);
  const page = cpu.ram.allocate(1);
  const before = machine.exits.total;
  const interrupts = machine.interruptsDelivered;
  expect(await runRequest(driver, guestRequest(Op.Read, 0, [page, 4096]))).toBe(Status.Ok);
  const exits = machine.exits.total - before;
  expect(machine.interruptsDelivered - interrupts).toBe(1);
  if (model.name === "bare") expect(exits).toBe(0);
  else if (model.name === "dma") expect(exits).toBe(26);
  else expect(exits).toBe(13 + 5 + 2048 + 1);
});
