import { expect, test } from "vitest";
import { AtaCommand, AtaError, AtaRegister, AtaStatus, BmStatus, Prd } from "../../assembly/spec/ata.ts";
import { IdeEvent, IdeField, PrdOutcome } from "../../assembly/spec/ide.ts";
import { BlockOp, BlockStatus } from "../../assembly/spec/request.ts";
import { IdeContext } from "../support/ide-context.ts";

const EOT = Prd.EndOfTable;
const TABLE = 0x1000;

/** A READ or WRITE DMA of `sectors` with that table, up to the walk. */
function start(
  prds: readonly (readonly [address: number, count: number])[],
  options: { sectors?: number; table?: number; code?: number; master?: boolean } = {},
) {
  const ide = new IdeContext();
  const table = options.table ?? TABLE;
  prds.forEach(([address, count], i) => {
    const at = ide.ramBase + table + i * Prd.Size;
    if (at + Prd.Size > ide.ramBase + ide.ramSize) return;
    ide.core.set(at, address);
    ide.core.set(at + 4, count);
  });
  ide.write(AtaRegister.BmTable, table, 4);
  ide.command(options.code ?? AtaCommand.ReadDma, 0, options.sectors ?? 8, 16, 0, 0, 0xe0);
  expect(ide.write(AtaRegister.BmCommand, 1)).toBe(IdeEvent.Io);
  const asked = ide.core.call.idePrd(ide.at, options.master === false ? 0 : 1);
  const request = asked === 1 ? ide.table.request(0) : undefined;
  const segments = request
    ? Array.from({ length: request.segments.count }, (_, i) => [
        request.segments.start(i) - ide.ramBase,
        request.segments.length(i),
      ])
    : [];
  return { ide, asked, request, segments, outcome: ide.get(IdeField.Outcome) };
}

test("one descriptor, exactly as long as the transfer", () => {
  const { ide, request, segments, outcome } = start([[0x8000, EOT | 4096]]);
  expect(outcome).toBe(PrdOutcome.Exact);
  expect(request).toMatchObject({ op: BlockOp.Read, offset: 16 * 512, length: 4096 });
  expect(segments).toEqual([[0x8000, 4096]]);
  ide.finish(BlockStatus.Ok);
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
});

test("several descriptors; the last is cut at the end of the transfer", () => {
  const { ide, segments, outcome } = start([
    [0x8000, 512],
    [0xa000, 2],
    [0xc000, EOT | 8192],
  ]);
  expect(outcome).toBe(PrdOutcome.Long);
  expect(segments).toEqual([
    [0x8000, 512],
    [0xa000, 2],
    [0xc000, 4096 - 514],
  ]);
  ide.finish(BlockStatus.Ok);
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Active | BmStatus.Interrupt);
});

test("a table that goes on after the transfer is longer than it", () => {
  const more = start([
    [0x8000, 4096],
    [0xa000, EOT | 2],
  ]);
  expect(more.outcome).toBe(PrdOutcome.Long);
  expect(more.segments).toEqual([[0x8000, 4096]]);
});

test("a count of zero is 64 KiB, bit 0 is ignored", () => {
  expect(start([[0x8000, EOT | 0]], { sectors: 128 })).toMatchObject({
    outcome: PrdOutcome.Exact,
    segments: [[0x8000, 65536]],
  });
  expect(start([[0x8000, EOT | 4097]])).toMatchObject({ outcome: PrdOutcome.Exact, segments: [[0x8000, 4096]] });
  expect(start([[0x8000, EOT | 1]], { sectors: 128 }).outcome).toBe(PrdOutcome.Exact);
});

test("less memory than data: no request, neither Active nor Interrupt, the drive idle without error", () => {
  const { ide, asked, outcome } = start([[0x8000, EOT | 4094]]);
  expect([asked, outcome]).toEqual([0, PrdOutcome.Short]);
  expect(ide.read(AtaRegister.BmStatus)).toBe(0);
  expect(ide.read(AtaRegister.AltStatus)).toBe(AtaStatus.Ready | AtaStatus.SeekComplete);
  expect(ide.get(IdeField.Line)).toBe(0);
});

test("no end mark: at most 512 descriptors are looked at", () => {
  const endless = Array.from({ length: 600 }, () => [0x8000, 2] as const);
  expect(start(endless, { sectors: 2 })).toMatchObject({ outcome: PrdOutcome.Exact });
  expect(start(endless, { sectors: 2 }).segments).toHaveLength(512);
  expect(start(endless, { sectors: 3 })).toMatchObject({ asked: 0, outcome: PrdOutcome.Short });
});

test.each([
  ["data past the end of RAM", [[0x80000 - 512, EOT | 4096]], TABLE],
  ["data far outside", [[0xfffffff0, EOT | 4096]], TABLE],
  ["the table past the end of RAM", [[0x8000, 512]], 0x80000 - 8],
  ["the table far outside", [], 0xfffffff8],
] as const)("%s: bus-master error, command aborted, nothing asked for", (_name, prds, table) => {
  const { ide, asked, outcome } = start(prds, { table });
  expect([asked, outcome]).toEqual([0, PrdOutcome.BadAddress]);
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Error | BmStatus.Interrupt);
  expect(ide.read(AtaRegister.AltStatus)).toBe(AtaStatus.Ready | AtaStatus.Error);
  expect(ide.read(AtaRegister.Error)).toBe(AtaError.Abort);
});

test("memory that no data reaches need not exist", () => {
  expect(start([[0x80000 - 4096, EOT | 8192]])).toMatchObject({ asked: 1, outcome: PrdOutcome.Long });
  expect(start([[0x8000, 4096]], { table: 0x80000 - 8 })).toMatchObject({ asked: 1, outcome: PrdOutcome.Exact });
});

test("a table may cross a page", () => {
  const { segments } = start(
    [
      [0x8000, 2048],
      [0xa000, EOT | 2048],
    ],
    { table: 0x2000 - 8 },
  );
  expect(segments).toEqual([
    [0x8000, 2048],
    [0xa000, 2048],
  ]);
});

test("without bus mastering a read ends as if the table were long, a write fails", () => {
  const read = start([[0x8000, EOT | 4096]], { master: false });
  expect(read.asked).toBe(0);
  expect(read.ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Active | BmStatus.Interrupt);
  expect(read.ide.read(AtaRegister.Status)).toBe(AtaStatus.Ready | AtaStatus.SeekComplete);
  const write = start([[0x8000, EOT | 4096]], { master: false, code: AtaCommand.WriteDma });
  expect(write.asked).toBe(0);
  expect(write.ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Error | BmStatus.Interrupt);
  expect(write.ide.read(AtaRegister.Error)).toBe(AtaError.Abort);
});

test("an address past the disk's end is found after the table, before the data", () => {
  const { ide, asked } = start([[0x8000, EOT | 4096]], { code: AtaCommand.WriteDma });
  expect(asked).toBe(1);
  ide.finish(BlockStatus.Ok);
  ide.write(AtaRegister.BmCommand, 0);
  ide.command(AtaCommand.WriteDma, 0, 8, 0xff, 0xff, 0x01, 0xe0);
  ide.write(AtaRegister.BmCommand, 1);
  expect(ide.core.call.idePrd(ide.at, 1)).toBe(0);
  expect(ide.read(AtaRegister.Error)).toBe(AtaError.IdNotFound);
  expect(ide.read(AtaRegister.BmStatus) & BmStatus.Active).toBe(0);
});

test("START before the command, and a START that is already set", () => {
  const ide = new IdeContext();
  ide.core.set(ide.ramBase + TABLE, 0x8000);
  ide.core.set(ide.ramBase + TABLE + 4, EOT | 512);
  ide.write(AtaRegister.BmTable, TABLE, 4);
  expect(ide.write(AtaRegister.BmCommand, 1)).toBe(0);
  expect(ide.command(AtaCommand.ReadDma, 0, 1, 0, 0, 0, 0xe0)).toBe(IdeEvent.Io);
  // The request is on its way: writing START again asks for nothing.
  expect(ide.write(AtaRegister.BmCommand, 1)).toBe(0);
  expect(ide.core.call.idePrd(ide.at, 1)).toBe(1);
  expect(ide.write(AtaRegister.BmCommand, 0)).toBe(0);
  expect(ide.write(AtaRegister.BmCommand, 1)).toBe(0);
  ide.finish(BlockStatus.Ok);
  expect(ide.read(AtaRegister.BmStatus)).toBe(BmStatus.Interrupt);
  // Active has gone, so the next command waits for a new START.
  expect(ide.command(AtaCommand.ReadDma, 0, 1, 0, 0, 0, 0xe0) & IdeEvent.Io).toBe(0);
  ide.write(AtaRegister.BmCommand, 0);
  expect(ide.write(AtaRegister.BmCommand, 1)).toBe(IdeEvent.Io);
});
