import { AtaCommand, AtaRegister, Prd } from "../assembly/spec/ata.ts";
import { RequestField, TableField } from "../assembly/spec/request.ts";
import type { Core } from "../src/wasm/core.ts";
import type { Bench } from "./bench.ts";
import { fillPrds, IDE, ideCore } from "./fixture/ide.ts";
import { inProcess } from "./harness.ts";
import { native } from "./native.ts";
import { IdeTwin } from "./twin/ide.ts";

/** The same shape for both contestants, so that the loops around them compile the same. */
interface Channel {
  i32: Int32Array;
  f64: Float64Array;
  write(register: number, value: number): number;
  read(register: number): number;
  prd(): number;
  finish(): number;
}

const RECORD = IDE.table + TableField.Records;
const OFFSET = (RECORD + RequestField.Offset) / 8;
const COUNT = (IDE.table + TableField.SegmentCount) / 4;
const SEGMENTS = (RECORD + RequestField.Size) / 4;

/** One 4 KiB READ DMA as a driver gives it: 16 register accesses, and the two calls that carry it out. */
function commands(channel: Channel, operations: number): number {
  const { i32, f64 } = channel;
  let sum = 0;
  for (let i = 0; i < operations; i++) {
    const lba = (i * 8) & 0xffff8;
    channel.write(AtaRegister.BmTable, IDE.prd);
    channel.write(AtaRegister.BmCommand, 8);
    channel.write(AtaRegister.BmStatus, 0x66);
    channel.write(AtaRegister.Device, 0xe0);
    channel.write(AtaRegister.Features, 0);
    channel.write(AtaRegister.Count, 8);
    channel.write(AtaRegister.LbaLow, lba & 0xff);
    channel.write(AtaRegister.LbaMid, (lba >>> 8) & 0xff);
    channel.write(AtaRegister.LbaHigh, lba >>> 16);
    sum += channel.write(AtaRegister.Command, AtaCommand.ReadDma);
    sum += channel.write(AtaRegister.BmCommand, 9);
    sum += channel.prd();
    sum += f64[OFFSET] / 512 + i32[SEGMENTS + 1];
    sum += channel.finish();
    sum += channel.read(AtaRegister.BmStatus) % 4294967296;
    channel.write(AtaRegister.BmCommand, 0);
    sum += (channel.read(AtaRegister.AltStatus) % 4294967296) + (channel.read(AtaRegister.Status) % 4294967296);
    channel.write(AtaRegister.BmStatus, 0x64);
  }
  return sum;
}

/** The walk of 32 descriptors that a command of 128 KiB has. */
function walks({ i32, ...channel }: Channel, operations: number): number {
  let sum = 0;
  for (let i = 0; i < operations; i++) {
    sum += channel.prd() + i32[COUNT] + (i32[SEGMENTS + (i & 31) * 2] >>> 12);
  }
  return sum;
}

const ctx = IDE.context;

/** A READ DMA of one page, or of the whole table, is set up; the latter also given. */
function prepared(whole: boolean): Core {
  const core = ideCore();
  const { ideWrite } = core.call;
  fillPrds(core);
  ideWrite(ctx, AtaRegister.BmTable, 4, IDE.prd);
  if (whole) {
    for (const [register, value] of [
      [AtaRegister.Device, 0xe0],
      [AtaRegister.Count, 0],
      [AtaRegister.Command, AtaCommand.ReadDma],
      [AtaRegister.BmCommand, 9],
    ]) {
      ideWrite(ctx, register, 1, value);
    }
  } else core.set(IDE.ram + IDE.prd + 4, (4096 | Prd.EndOfTable) >>> 0);
  return core;
}

function bench(name: string, unit: string, operations: number, whole: boolean, loop: typeof commands): Bench {
  return {
    name,
    unit,
    operations,
    contestants() {
      const core = prepared(whole);
      const start = core.u8.slice();
      const { ideRead, ideWrite, idePrd, ideFinish } = core.call;
      const wasm: Channel = {
        i32: new Int32Array(core.memory.buffer),
        f64: core.f64,
        write: (register, value) => ideWrite(ctx, register, register === AtaRegister.BmTable ? 4 : 1, value),
        read: (register) => ideRead(ctx, register, 1),
        prd: () => idePrd(ctx, 1),
        finish: () => ideFinish(ctx, 0, -1),
      };
      const twin = new IdeTwin(start, ctx);
      const typescript: Channel = {
        i32: twin.i32,
        f64: twin.f64,
        write: (register, value) => twin.write(register, value),
        read: (register) => twin.read(register),
        prd: () => twin.prd(),
        finish: () => twin.finish(0, -1),
      };
      const which = [commands, walks].indexOf(loop);
      return [
        inProcess("WASM", (n) => loop(wasm, n)),
        inProcess("TypeScript", (n) => loop(typescript, n)),
        ...native("ide", `ide-${which}`, start, [which, ctx, IDE.prd]),
      ];
    },
  };
}

export const ideBenches: Bench[] = [
  bench("ide: READ DMA, 16 accesses", "command", 60_000, false, commands),
  bench("ide: PRD walk, 32 entries", "walk", 100_000, true, walks),
];
