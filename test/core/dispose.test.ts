import { expect, test } from "vitest";
import { attachBlkback, attachIde, attachVirtioBlk, createDisk, Hypervisor, MemoryStore } from "../../src/index.ts";

test.runIf(Symbol.asyncDispose)("what has a close() ends by Symbol.asyncDispose too", async () => {
  const store = new MemoryStore();
  const disk = await createDisk(store, { format: "raw", size: 1 << 20 });
  const hypervisor = new Hypervisor();
  const machine = hypervisor.createMachine({ memory: 16 << 20 });
  const attach = [
    () => attachIde(machine, { drives: [[disk]] }),
    () => attachVirtioBlk(machine, disk, { base: 0xd0000000, interrupt: 5 }),
    () => attachBlkback(hypervisor, machine, disk),
  ];
  for (const plug of attach) {
    await plug()[Symbol.asyncDispose]();
    // Its ports, window or directory are free again.
    await plug().close();
  }
  await disk[Symbol.asyncDispose]();
  const scratch = new MemoryStore();
  await scratch[Symbol.asyncDispose]();
  expect(() => scratch.resize(512)).toThrow(expect.objectContaining({ code: "CLOSED" }));
});
