import { describe, expect, test } from "vitest";
import { Op, Status } from "../../src/core/block.ts";
import { type AtaProbeOptions, probeAta } from "../../src/guest/ata/probe.ts";
import { attachIde, type IdeOptions } from "../../src/host/device/ide/controller.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { fillPattern, guestRequest, runRequest } from "../support/ata.ts";
import { pattern } from "../support/ide.ts";
import { SparseBlock } from "../support/sparse-block.ts";

const MODELS = [
  { name: "pio", mode: "pio", bare: false },
  { name: "dma", mode: "dma", bare: false },
  { name: "bare", mode: "dma", bare: true },
] as const;
type Model = (typeof MODELS)[number];
const PIO = MODELS[0];
const DMA = MODELS[1];

async function boot(
  { mode, bare }: Model,
  drives: IdeOptions["drives"] = [[new SparseBlock(64 << 20)]],
  extra: Partial<AtaProbeOptions> = {},
) {
  const machine = new LabMachine({ memory: 8 << 20 });
  const controller = attachIde(machine, { drives });
  const registers = bare ? { registers: controller.channels[extra.channel ?? 0] } : {};
  const drivers = await probeAta(machine.guest, { mode, ...registers, ...extra });
  const count = () => ({ exits: machine.exits.total, interrupts: machine.interruptsDelivered });
  return { machine, controller, driver: drivers[0], drivers, cpu: machine.guest, count };
}

describe.each(MODELS)("$name", (model) => {
  test("what is written is read back, from wherever it stands", async () => {
    const { cpu, driver, controller } = await boot(model);
    const out = cpu.ram.allocate(40);
    const back = cpu.ram.allocate(40);
    const content = fillPattern(cpu, out, 160 << 10, 7);
    // Three runs, the second across a 64 KiB boundary, the third in between.
    const runs = (base: number): [number, number][] => [
      [base, 4096 + 2],
      [base + 8192 + 2, 131072 - 2],
      [base + 4096 + 2, 4096],
    ];
    expect(await runRequest(driver, guestRequest(Op.Write, 1 << 20, ...runs(out)))).toBe(Status.Ok);
    expect(await runRequest(driver, guestRequest(Op.Flush, 0))).toBe(Status.Ok);
    expect(await runRequest(driver, guestRequest(Op.Read, 1 << 20, ...runs(back)))).toBe(Status.Ok);
    for (const [start, length] of runs(0)) {
      expect(Buffer.compare(cpu.ram.bytes(back + start, length), content.subarray(start, start + length))).toBe(0);
    }
    driver.close();
    await controller.close();
  });

  test("runs at odd addresses", async () => {
    const { cpu, driver } = await boot(model);
    const out = cpu.ram.allocate(3) + 1;
    const back = cpu.ram.allocate(3) + 3;
    const content = fillPattern(cpu, out, 4096, 3);
    const split = (base: number): [number, number][] => [
      [base, 511],
      [base + 511, 2],
      [base + 513, 4096 - 513],
    ];
    expect(await runRequest(driver, guestRequest(Op.Write, 512, ...split(out)))).toBe(Status.Ok);
    expect(await runRequest(driver, guestRequest(Op.Read, 512, ...split(back)))).toBe(Status.Ok);
    expect(cpu.ram.bytes(back, 4096)).toEqual(content);
  });

  test("completes a disk that takes its time, one request after the other", async () => {
    const block = new SparseBlock(64 << 20);
    const { cpu, driver } = await boot(model, [[block]]);
    block.poke(4096, pattern(4096, 1));
    const page = cpu.ram.allocate(1);
    block.held = true;
    for (const op of [Op.Read, Op.Write, Op.Flush] as const) {
      const done = runRequest(driver, op === Op.Flush ? guestRequest(op, 0) : guestRequest(op, 4096, [page, 4096]));
      expect(driver.start([guestRequest(Op.Read, 0, [page, 512])])).toBe(0);
      while (block.waiting) await block.release();
      expect(await done).toBe(Status.Ok);
    }
    expect(cpu.ram.bytes(page, 4096)).toEqual(pattern(4096, 1));
  });

  test("28-bit commands up to 2^28 sectors, 48-bit beyond or above 256 sectors", async () => {
    const block = new SparseBlock(200 * 2 ** 30);
    const { cpu, driver } = await boot(model, [[block]]);
    expect(driver.size).toBe(200 * 2 ** 30);
    const buffer = cpu.ram.allocate(64);
    for (const [lba, sectors] of [
      [2 ** 28 - 8, 8],
      [2 ** 28 - 4, 8],
      [2 ** 28, 8],
      [300 * 2 ** 20, 1],
      [0, 256],
      [0, 257],
    ]) {
      const content = pattern(sectors * 512, lba % 251);
      block.poke(lba * 512, content);
      cpu.ram.bytes(buffer, content.length).fill(0xee);
      expect(await runRequest(driver, guestRequest(Op.Read, lba * 512, [buffer, content.length]))).toBe(Status.Ok);
      expect(Buffer.compare(cpu.ram.bytes(buffer, content.length), content), `lba ${lba}`).toBe(0);
    }
  });

  test("the causes of failures come through", async () => {
    const block = new SparseBlock(1 << 20);
    const { cpu, driver } = await boot(model, [[block]]);
    const page = cpu.ram.allocate(1);
    const read = () => runRequest(driver, guestRequest(Op.Read, 8192, [page, 4096]));
    const write = () => runRequest(driver, guestRequest(Op.Write, 8192, [page, 4096]));
    block.faults.push({ op: Op.Read, status: Status.Media, at: 8192 + 512 });
    expect(await read()).toBe(Status.Media);
    block.faults.push({ op: Op.Read, status: Status.Crc });
    expect(await read()).toBe(model.mode === "dma" ? Status.Crc : Status.Io);
    block.faults.push({ op: Op.Read, status: Status.Io });
    expect(await read()).toBe(Status.Io);
    expect(await runRequest(driver, guestRequest(Op.Read, 1 << 20, [page, 4096]))).toBe(Status.OutOfRange);
    block.readOnly = true;
    expect(await write()).toBe(Status.Io);
    block.readOnly = false;
    block.room = 0;
    expect(await write()).toBe(Status.Io);
    block.faults.push({ op: Op.Flush, status: Status.Io });
    expect(await runRequest(driver, guestRequest(Op.Flush, 0))).toBe(Status.Io);
    expect(await runRequest(driver, guestRequest(Op.Discard, 0))).toBe(Status.Unsupported);
    // And none of it has left the channel in a state.
    expect(await read()).toBe(Status.Ok);
  });
});

describe("exits", () => {
  test.each([
    { ...DMA, lba: 0, name: "DMA, 28-bit", expected: 26 },
    { ...DMA, lba: 2 ** 28, name: "DMA, 48-bit", expected: 31 },
    { ...MODELS[2], lba: 0, name: "bare", expected: 0 },
  ])("of a 4 KiB read, $name: $expected and one interrupt", async ({ lba, expected, ...model }) => {
    const { cpu, driver, count } = await boot(model as Model, [[new SparseBlock(200 * 2 ** 30)]]);
    const page = cpu.ram.allocate(1);
    for (const op of [Op.Read, Op.Write] as const) {
      const before = count();
      expect(await runRequest(driver, guestRequest(op, lba * 512, [page, 4096]))).toBe(Status.Ok);
      const after = count();
      expect([after.exits - before.exits, after.interrupts - before.interrupts]).toEqual([expected, 1]);
    }
  });

  test.each([
    // The task file and command are 13, a DRQ block 5 around its data, the end of a read 1.
    ["READ MULTIPLE, words", Op.Read, {}, 13 + 5 + 2048 + 1, 1],
    ["READ MULTIPLE, double words", Op.Read, { dataWidth: 4 }, 13 + 5 + 1024 + 1, 1],
    ["READ SECTORS", Op.Read, { multiple: false }, 13 + 8 * 5 + 2048 + 1, 8],
    // A write's first block comes without an interrupt, its end with one.
    ["WRITE MULTIPLE, words", Op.Write, {}, 13 + 2 + 2048 + 4, 1],
    ["WRITE SECTORS", Op.Write, { multiple: false }, 13 + 2 + 7 * 5 + 2048 + 4, 8],
  ] as const)("of 4 KiB by PIO, %s", async (_name, op, extra, exits, interrupts) => {
    const { cpu, driver, count } = await boot(PIO, undefined, extra);
    const page = cpu.ram.allocate(1);
    const before = count();
    expect(await runRequest(driver, guestRequest(op, 0, [page, 4096]))).toBe(Status.Ok);
    const after = count();
    expect([after.exits - before.exits, after.interrupts - before.interrupts]).toEqual([exits, interrupts]);
  });
});

describe("probe", () => {
  test("who is there, and what they say of themselves", async () => {
    const drives = [
      [
        { block: new SparseBlock(1 << 20), model: "FIRST MODEL", serial: "S1", firmware: "F1" },
        { block: new SparseBlock(2 << 20), model: "SECOND MODEL", serial: "S2" },
      ],
      [undefined, { block: new SparseBlock(3 << 20), model: "THIRD" }],
    ];
    const machine = new LabMachine({ memory: 8 << 20 });
    attachIde(machine, { drives });
    const primary = await probeAta(machine.guest, { mode: "dma" });
    const secondary = await probeAta(machine.guest, { mode: "dma", channel: 1 });
    expect(primary.map(({ name, size, identity }) => [name, size, identity.model, identity.serial])).toEqual([
      ["ata0.0", 1 << 20, "FIRST MODEL", "S1"],
      ["ata0.1", 2 << 20, "SECOND MODEL", "S2"],
    ]);
    expect(primary[0].identity.firmware).toBe("F1");
    expect(secondary.map(({ name, identity }) => [name, identity.model])).toEqual([["ata1.1", "THIRD"]]);
    // UDMA 5 has been chosen.
    expect(primary[0].identity.words[88]).toBe(0x203f);
  });

  test("an empty channel, and a machine without a controller", async () => {
    const { drivers } = await boot(DMA, [[]]);
    expect(drivers).toEqual([]);
    const machine = new LabMachine({ memory: 8 << 20 });
    await expect(probeAta(machine.guest, { mode: "dma" })).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("a drive still busy with an old request is waited for", async () => {
    const block = new SparseBlock(1 << 20);
    const machine = new LabMachine({ memory: 8 << 20 });
    attachIde(machine, { drives: [[block]] });
    block.held = true;
    machine.guest.out(0x1f7, 1, 0xe7);
    const probing = probeAta(machine.guest, { mode: "pio" });
    setTimeout(() => block.release(), 20);
    expect(await probing).toHaveLength(1);
  });
});

test("two disks on a channel: each holds one request, they take turns", async () => {
  const blocks = [new SparseBlock(1 << 20), new SparseBlock(1 << 20)];
  const { cpu, drivers } = await boot(DMA, [blocks]);
  const pages = [cpu.ram.allocate(1), cpu.ram.allocate(1)];
  const contents = pages.map((page, i) => fillPattern(cpu, page, 4096, i + 1));
  for (const block of blocks) block.held = true;
  const writes = drivers.map((driver, i) => runRequest(driver, guestRequest(Op.Write, 0, [pages[i], 4096])));
  expect(blocks.map((block) => block.waiting)).toEqual([1, 0]);
  await blocks[0].release();
  expect(blocks.map((block) => block.waiting)).toEqual([0, 1]);
  await blocks[1].release();
  expect(await Promise.all(writes)).toEqual([Status.Ok, Status.Ok]);
  blocks.forEach((block, i) => {
    expect(block.peek(0, 4096)).toEqual(contents[i]);
  });
  for (const driver of drivers) driver.close();
});
