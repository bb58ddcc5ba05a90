import { expect, test } from "vitest";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { Op, Status } from "../../src/core/block.ts";
import { AtaDisk } from "../../src/guest/ata/disk.ts";
import { probeAta, probeIde } from "../../src/guest/ata/probe.ts";
import type { AtapiDrive } from "../../src/guest/atapi.ts";
import { attachIde } from "../../src/host/device/ide/controller.ts";
import { cdFromBlock } from "../../src/host/media/image.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { guestRequest, runRequest } from "../support/ata.ts";
import { be } from "../support/cd.ts";
import { sectors } from "../support/disc.ts";
import { FakeBlock, type FakeOptions } from "../support/fake-block.ts";
import { SparseBlock } from "../support/sparse-block.ts";

async function rig(mode: "pio" | "dma", options: FakeOptions = {}) {
  const machine = new LabMachine({ memory: 4 << 20 });
  const image = new FakeBlock(200 * 2048, options);
  image.bytes.set(sectors(200, 2048));
  const ide = attachIde(machine, { drives: [[new SparseBlock(1 << 20), { cd: cdFromBlock(image) }]], slot: 1 });
  const [disk, cd] = await probeIde(machine.guest, { mode });
  return { machine, image, ide, disk: disk as AtaDisk, cd: cd as AtapiDrive };
}

test.each(["pio", "dma"] as const)("a disk and a CD drive on one channel, by %s", async (mode) => {
  const { machine, image, disk, cd } = await rig(mode);
  expect([disk instanceof AtaDisk, cd.identity.model, cd.size]).toEqual([true, "PARAVANE DVD-ROM", 0]);
  expect(await cd.refresh()).toBe(true);
  expect(cd.size).toBe(200 * 2048);
  const request = guestRequest(Op.Read, 11 * 2048, [0x200001, 2047], [0x240000, 62 * 2048 + 1]);
  expect(await runRequest(cd, request)).toBe(Status.Ok);
  const { ram } = machine.guest;
  const got = [...ram.bytes(0x200001, 2047), ...ram.bytes(0x240000, 62 * 2048 + 1)];
  expect(Buffer.from(got).equals(image.bytes.slice(11 * 2048, 74 * 2048))).toBe(true);
  const even = guestRequest(Op.Read, 0, [0x200000, 64 * 2048]);
  expect(await runRequest(cd, even)).toBe(Status.Ok);
  expect(Buffer.compare(ram.bytes(0x200000, 64 * 2048), image.bytes.slice(0, 64 * 2048))).toBe(0);
  // The disk has kept its own way.
  expect(await runRequest(disk, guestRequest(Op.Write, 512, [0x200000, 4096]))).toBe(Status.Ok);
  expect(await runRequest(disk, guestRequest(Op.Read, 512, [0x280000, 4096]))).toBe(Status.Ok);
  expect(Buffer.compare(ram.bytes(0x280000, 4096), ram.bytes(0x200000, 4096))).toBe(0);
  disk.close();
  cd.close();
  // probeAta sees the disk alone.
  expect((await probeAta(machine.guest, { mode })).map(({ name }) => name)).toEqual(["ata0.0"]);
});

test.each(["pio", "dma"] as const)("errors and a change of medium, by %s", async (mode) => {
  const { image, ide, cd } = await rig(mode);
  image.fault = ({ offset }) => (offset === 9 * 2048 ? Status.Media : Status.Ok);
  expect(await runRequest(cd, guestRequest(Op.Read, 9 * 2048, [0x200000, 4096]))).toBe(Status.Media);
  expect(await runRequest(cd, guestRequest(Op.Read, 200 * 2048, [0x200000, 4096]))).toBe(Status.OutOfRange);
  expect(await runRequest(cd, guestRequest(Op.Write, 0, [0x200000, 4096]))).toBe(Status.ReadOnly);
  expect(await cd.command([0xee], 64)).toEqual({ bytes: new Uint8Array(0), sense: { key: 5, code: 0x2000 } });
  const tray = ide.tray(0, 1);
  tray.eject();
  expect([await cd.refresh(), cd.size]).toEqual([false, 0]);
  tray.insert(cdFromBlock(new FakeBlock(2048 * 50)));
  expect([await cd.refresh(), cd.size]).toEqual([true, 50 * 2048]);
  const list = [0, 0, 0, 0, 0, 0, 0, 0, 13, 6, 0, 3, 0, 60, 0, 75];
  const select = [PacketOp.ModeSelect10, 0x10, 0, 0, 0, 0, 0, ...be(list.length, 2)];
  expect((await cd.command(select, 0, Uint8Array.from(list))).sense).toBeNull();
  const { bytes } = await cd.command([PacketOp.ModeSense10, 0, 13, 0, 0, 0, 0, 0, 64], 64);
  expect([bytes.length, bytes[11]]).toEqual([16, 3]);
});

test.each(["pio", "dma"] as const)("an image that takes its time, by %s", async (mode) => {
  const { machine, image, cd } = await rig(mode, { manual: true });
  const reading = runRequest(cd, guestRequest(Op.Read, 4096, [0x200000, 8192]));
  while (image.waiting === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  await image.release();
  expect(await reading).toBe(Status.Ok);
  expect(Buffer.compare(machine.guest.ram.bytes(0x200000, 8192), image.bytes.slice(4096, 12288))).toBe(0);
});
