import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { AtaCommand, AtaRegister, Prd } from "../../assembly/spec/ata.ts";
import { IdeField, PrdOutcome } from "../../assembly/spec/ide.ts";
import { IdeContext } from "../support/ide-context.ts";
import { TracedCore } from "../support/traced-core.ts";

const TABLE = 0x1000;
let hook: ((address: number) => void) | null = null;
let traced: TracedCore;

beforeAll(() => {
  traced = TracedCore.install(({ address }) => hook?.(address));
});
afterAll(() => traced.uninstall());
beforeEach(() => {
  hook = null;
});

function walk(prds: readonly (readonly [number, number])[], sectors: number) {
  const ide = new IdeContext();
  prds.forEach(([address, count], i) => {
    ide.core.set(ide.ramBase + TABLE + i * Prd.Size, address);
    ide.core.set(ide.ramBase + TABLE + i * Prd.Size + 4, count);
  });
  ide.write(AtaRegister.BmTable, TABLE, 4);
  ide.command(AtaCommand.ReadDma, 0, sectors, 0, 0, 0, 0xe0);
  ide.write(AtaRegister.BmCommand, 1);
  traced.clear();
  const asked = ide.core.call.idePrd(ide.at, 1);
  return { ide, asked, start: ide.ramBase, end: ide.ramBase + ide.ramSize };
}

test.each([
  ["exact", [[0x8000, Prd.EndOfTable | 512]], 1, PrdOutcome.Exact, 1],
  ["scattered", Array.from({ length: 200 }, (_, i) => [0x8000 + i * 64, 64] as const), 25, PrdOutcome.Long, 200 + 1],
  ["long", [[0x8000, Prd.EndOfTable | 4096]], 1, PrdOutcome.Long, 1],
  ["short", [[0x8000, Prd.EndOfTable | 256]], 1, PrdOutcome.Short, 1],
  ["bad address", [[0xffff_0000, 512]], 1, PrdOutcome.BadAddress, 1],
  ["endless", Array.from({ length: 600 }, () => [0x8000, 2] as const), 256, PrdOutcome.Short, Prd.Entries],
] as const)("%s: no byte of guest memory is loaded twice", (_name, prds, sectors, outcome, entries) => {
  const { ide, start, end } = walk(prds, sectors);
  expect(ide.get(IdeField.Outcome)).toBe(outcome);
  expect(traced.within(start, end)).toHaveLength(entries * 2);
  expect(traced.twice(start, end)).toEqual([]);
});

test("a descriptor that changes once it is read changes nothing", () => {
  hook = null;
  const calm = walk([[0x8000, Prd.EndOfTable | 512]], 1);
  const expected = calm.ide.table.request(0);
  let changed = 0;
  const { ide, asked } = (() => {
    const base = calm.ide.ramBase;
    // Each context has a memory of its own; the hook only knows addresses, which are the same in all.
    let memory: Uint8Array | null = null;
    hook = (address) => {
      if (memory === null || address < base + TABLE || address >= base + TABLE + Prd.Size) return;
      memory.fill(0xff, base + TABLE, base + TABLE + Prd.Size);
      changed++;
    };
    const fresh = new IdeContext();
    fresh.core.set(base + TABLE, 0x8000);
    fresh.core.set(base + TABLE + 4, Prd.EndOfTable | 512);
    fresh.write(AtaRegister.BmTable, TABLE, 4);
    fresh.command(AtaCommand.ReadDma, 0, 1, 0, 0, 0, 0xe0);
    fresh.write(AtaRegister.BmCommand, 1);
    memory = fresh.core.u8;
    return { ide: fresh, asked: fresh.core.call.idePrd(fresh.at, 1) };
  })();
  expect(changed).toBe(2);
  expect(asked).toBe(1);
  const request = ide.table.request(0);
  // The address was read before the change; the count after it, once: 64 KiB less two, cut to the transfer.
  expect([request.segments.count, request.segments.start(0), request.segments.length(0)]).toEqual([
    1,
    expected.segments.start(0),
    512,
  ]);
});
