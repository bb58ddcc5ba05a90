import { expect, test } from "vitest";
import { AtaCommand, AtaRegister, AtaTransfer, Prd } from "../../assembly/spec/ata.ts";
import { DriveField, IdeEvent, IdeField, PrdOutcome } from "../../assembly/spec/ide.ts";
import { BlockStatus } from "../../assembly/spec/request.ts";
import { IDE, ideCore } from "../../bench/fixture/ide.ts";
import { IdeTwin } from "../../bench/twin/ide.ts";
import type { Core } from "../../src/wasm/core.ts";
import { Random } from "../support/random.ts";
import { expectSame, followCore } from "../support/twins.ts";

const COMMANDS = [AtaCommand.ReadDma, AtaCommand.WriteDma, AtaCommand.ReadDmaExt, AtaCommand.WriteDmaExt, 0xc9, 0xfe];
const READABLE = [1, 2, 3, 4, 5, 6, 7, 8, AtaRegister.BmCommand, AtaRegister.BmStatus];

function prds(core: Core, random: Random): void {
  const entries = 1 + random.below(40);
  for (let i = 0; i < entries; i++) {
    const at = IDE.ram + IDE.prd + i * Prd.Size;
    core.set(at, random.oneIn(60) ? random.u32() : random.below(IDE.ramSize - 65536));
    const count = random.oneIn(20) ? random.below(65536) : 512 * (1 + random.below(16));
    core.set(at + 4, (count | (i === entries - 1 && !random.oneIn(30) ? Prd.EndOfTable : 0)) >>> 0);
  }
}

test("the IDE twin leaves every byte as the core does", () => {
  const outcomes = new Set<number>();
  let requests = 0;
  let failures = 0;
  for (let seed = 1; seed <= 150; seed++) {
    const random = new Random(seed);
    const sectors = random.pick([131072, 1 << 21, 0xffffffff]);
    const core = ideCore(sectors);
    const drive = IDE.context + IdeField.Drives;
    const mode = random.pick([AtaTransfer.UltraDma, AtaTransfer.MultiWordDma, AtaTransfer.SingleWordDma]);
    core.set(drive + DriveField.TransferMode, mode | random.below(3));
    core.set(drive + DriveField.Multiple, random.oneIn(2) ? 0 : 16);
    const twin = new IdeTwin(core.u8, IDE.context);
    const write = (register: number, value: number) => {
      const width = register === AtaRegister.BmTable ? 4 : 1;
      const event = core.call.ideWrite(IDE.context, register, width, value);
      expect(twin.write(register, value)).toBe(event);
      return event;
    };
    for (let step = 0; step < 60; step++) {
      prds(core, random);
      followCore(core, twin);
      const early = random.oneIn(3);
      write(AtaRegister.BmTable, random.oneIn(40) ? random.u32() : IDE.prd);
      write(AtaRegister.BmStatus, random.u32() & 0xff);
      if (random.oneIn(4)) write(AtaRegister.Control, random.pick([0, 2, 0x80]));
      if (early) write(AtaRegister.BmCommand, 9);
      write(AtaRegister.Device, random.pick([0x40, 0x40, 0xe0, 0, 0x50]) | random.below(16));
      for (let deep = random.below(2); deep >= 0; deep--) {
        for (const register of [1, 2, 3, 4, 5]) write(register, random.below(register === 2 ? 100 : 256));
      }
      if (random.oneIn(2)) for (const register of [3, 4, 5, 3, 4, 5]) write(register, register === 3 ? 5 : 0);
      let event = write(AtaRegister.Command, random.pick(COMMANDS));
      if (!early) event |= write(AtaRegister.BmCommand, 9);
      if (event & IdeEvent.Io) {
        const ready = core.call.idePrd(IDE.context, 1);
        expect(twin.prd()).toBe(ready);
        outcomes.add(core.get(IDE.context + IdeField.Outcome));
        expectSame(core, twin);
        if (ready) {
          requests++;
          const status = random.oneIn(6) ? random.pick([2, 3, 4, 5, 6, 7]) : BlockStatus.Ok;
          const lba = random.oneIn(2) ? -1 : random.below(sectors);
          expect(twin.finish(status, lba)).toBe(core.call.ideFinish(IDE.context, status, lba));
        } else failures++;
      }
      expectSame(core, twin);
      for (const register of READABLE) {
        if (random.oneIn(3)) expect(twin.read(register)).toBe(core.call.ideRead(IDE.context, register, 1));
      }
      write(AtaRegister.BmCommand, 0);
      expectSame(core, twin);
    }
  }
  expect(requests).toBeGreaterThan(500);
  expect(failures).toBeGreaterThan(100);
  expect([...outcomes].sort()).toEqual([PrdOutcome.Exact, PrdOutcome.Long, PrdOutcome.Short, PrdOutcome.BadAddress]);
});
