import { expect, test } from "vitest";
import { AtaError, AtaRegister, BmCommand, Prd } from "../../../../assembly/spec/ata.ts";
import { ABORTED, AtaBench, FAILED, IDLE } from "../../../support/ata-disk.ts";
import { pattern } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const STATUS = 0xda;
const LOCK = 0xde;
const UNLOCK = 0xdf;
const EJECT = 0xed;
const bench = () => {
  const ide = new AtaBench({ removable: true });
  return Object.assign(ide, { slot: ide.controller.cartridge(0, 0) });
};
const after = (ide: AtaBench, code: number) => {
  ide.command(code, { count: 1 });
  if (code === 0x30) ide.feed(new Uint8Array(512));
  return ide.ended;
};

test("IDENTIFY says so; a fixed disk refuses the commands and has no slot", () => {
  const w = bench().identify();
  expect([w[0], w[82] & 4, w[85] & 4]).toEqual([0x0080, 4, 4]);
  const fixed = new AtaBench();
  for (const code of [STATUS, LOCK, UNLOCK, EJECT]) expect(after(fixed, code)).toEqual(ABORTED);
  expect(() => fixed.controller.cartridge(0, 0)).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
});

test("NM: without a medium whatever needs it fails, by PIO, by DMA, and GET MEDIA STATUS", () => {
  const ide = bench();
  ide.slot.eject();
  for (const code of [0x20, 0x30, 0x40, 0xe7, STATUS, LOCK, EJECT]) {
    expect([code, ...after(ide, code)]).toEqual([code, FAILED, AtaError.NoMedia]);
    expect(ide.irq).toBe(false);
  }
  ide.prds(0x200000, [[0x300000, Prd.EndOfTable | 512]]);
  ide.write(AtaRegister.BmTable, 0x200000, 4);
  ide.write(AtaRegister.BmCommand, BmCommand.Start | BmCommand.ToMemory);
  expect(after(ide, 0xc8)).toEqual([FAILED, AtaError.NoMedia]);
  expect(ide.read(AtaRegister.BmStatus) & 1).toBe(0);
  expect(after(ide, UNLOCK)[0]).toBe(IDLE);
  expect(ide.identify()[60]).toBe(0);
  expect(ide.block.log).toEqual([]);
});

test("MC: a change is told once, then the new medium is there, with its own size", () => {
  const ide = bench();
  ide.slot.eject();
  const other = new SparseBlock(1 << 20);
  other.poke(0, pattern(512, 5));
  ide.slot.insert(other);
  expect(after(ide, 0x20)).toEqual([FAILED, AtaError.MediaChanged]);
  ide.command(0x20, { count: 1 });
  expect(ide.drain()).toEqual(pattern(512, 5));
  expect(ide.identify()[60]).toBe(2048);
  ide.command(0x20, { lba: 2048, count: 1 });
  expect(ide.error).toBe(AtaError.IdNotFound);
  ide.slot.insert(new SparseBlock(2 << 20));
  expect(after(ide, STATUS)).toEqual([FAILED, AtaError.MediaChanged]);
  expect(after(ide, STATUS)[0]).toBe(IDLE);
  expect(() => ide.slot.insert(new SparseBlock(1 << 20, 4096))).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test("MCR: the wish to take out what is locked is told once; the guest ejects, or force does", () => {
  const ide = bench();
  expect(after(ide, LOCK)[0]).toBe(IDLE);
  expect(() => ide.slot.eject()).toThrow(expect.objectContaining({ code: "BUSY" }));
  expect([ide.slot.isPresent, ide.slot.isLocked]).toEqual([true, true]);
  expect(after(ide, STATUS)).toEqual([FAILED, AtaError.MediaChangeRequest]);
  expect(after(ide, STATUS)[0]).toBe(IDLE);
  expect(after(ide, EJECT)).toEqual(ABORTED);
  expect(after(ide, UNLOCK)[0]).toBe(IDLE);
  expect(after(ide, EJECT)[0]).toBe(IDLE);
  expect(ide.slot.isPresent).toBe(false);
  ide.slot.insert(new SparseBlock(1 << 20));
  after(ide, STATUS);
  after(ide, LOCK);
  expect(() => ide.slot.eject()).toThrow();
  expect(after(ide, LOCK)).toEqual([FAILED, AtaError.MediaChangeRequest]);
  ide.slot.eject({ force: true });
  expect(after(ide, 0x20)).toEqual([FAILED, AtaError.NoMedia]);
});

test("a write-protected medium, and a save with the slot empty", () => {
  const ide = bench();
  ide.block.readOnly = true;
  expect(after(ide, STATUS)).toEqual([FAILED, 0x40]);
  ide.slot.eject();
  const other = bench();
  other.controller.restore(JSON.parse(JSON.stringify(ide.controller.save())));
  expect(other.slot.isPresent).toBe(false);
  expect(after(other, 0x20)).toEqual([FAILED, AtaError.NoMedia]);
});
