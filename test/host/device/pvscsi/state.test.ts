import { expect, test } from "vitest";
import { HostStatus, PvscsiCommand, PvscsiInterrupt, PvscsiRegister } from "../../../../assembly/spec/pvscsi.ts";
import { ScsiOp } from "../../../../assembly/spec/scsi.ts";
import { Op } from "../../../../src/core/block.ts";
import { ParavaneError } from "../../../../src/core/error.ts";
import type { PvscsiState } from "../../../../src/host/device/pvscsi/save.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { random } from "../../../support/fuzz-disk.ts";
import { AT, IN, LIST, OUT, RawPvscsi, rw10 } from "../../../support/pvscsi.ts";

const SIZE = 1 << 20;

/** Through JSON, as a file would have it. */
const stored = (state: PvscsiState): PvscsiState => JSON.parse(JSON.stringify(state));

/** Another machine with the same memory and disk contents, its adapter in that state. */
async function elsewhere(from: RawPvscsi, disk: FakeBlock, state = stored(from.device.save())) {
  const copy = new FakeBlock(SIZE, { manual: true });
  copy.bytes.set(disk.bytes);
  const raw = new RawPvscsi([copy]);
  raw.bytes(0, 4 << 20).set(from.bytes(0, 4 << 20));
  raw.produced = from.produced;
  raw.consumed = from.consumed;
  raw.nextContext = from.nextContext;
  await raw.device.restore(state);
  return { raw, copy };
}

function started() {
  const disk = new FakeBlock(SIZE, { manual: true });
  for (let i = 0; i < SIZE; i++) disk.bytes[i] = (i * 5 + (i >>> 9)) & 255;
  const raw = new RawPvscsi([disk]);
  raw.setUp();
  raw.setUpMessages();
  raw.settle(0);
  return { disk, raw };
}

test("reads and writes in flight are begun again elsewhere, and all are completed once", async () => {
  const { disk, raw } = started();
  raw.bytes(AT.data, 4096).fill(0x5a);
  const list = raw.list([
    [AT.data + 8192, 100],
    [AT.data + 16384, 3996],
  ]);
  const write = raw.push({ cdb: rw10(ScsiOp.Write10, 0, 8), flags: OUT });
  const read = raw.push({ cdb: rw10(ScsiOp.Read10, 80, 8), flags: IN | LIST, address: list });
  const bad = raw.push({ cdb: rw10(ScsiOp.Read10, 0xffff, 8) });
  raw.kick();
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8), address: AT.data + 32768 });
  const { raw: next, copy } = await elsewhere(raw, disk);
  expect(next.completions().map(({ context }) => context)).toEqual([bad]);
  // With what was on the ring and not taken: whether there was a kick for it, nobody remembers.
  expect(copy.asked).toEqual([...disk.asked, { op: Op.Read, offset: 0, length: 4096 }]);
  while (copy.waiting > 0) await copy.release();
  expect(next.completions().map(({ context, host, status, bytes }) => [context, host, status, bytes])).toEqual([
    [write, 0, 0, 4096],
    [read, 0, 0, 4096],
    [bad + 1, 0, 0, 4096],
  ]);
  expect(copy.bytes.subarray(0, 4096)).toEqual(new Uint8Array(4096).fill(0x5a));
  expect(next.bytes(AT.data + 16384, 3996)).toEqual(disk.bytes.subarray(40960 + 100, 45056));
  expect(next.line).toBe(true);
});

test("registers, half a descriptor, messages, unit attentions and aborts survive", async () => {
  const { disk, raw } = started();
  raw.device.plug(3, new FakeBlock(SIZE));
  const context = raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8) });
  raw.kick();
  raw.command(PvscsiCommand.AbortCommand, [context, 0, 0, 0]);
  raw.device.resized(0);
  raw.write(PvscsiRegister.InterruptMask, 4);
  raw.write(PvscsiRegister.Command, PvscsiCommand.ResetDevice);
  raw.write(PvscsiRegister.CommandData, 0);
  const { raw: next, copy } = await elsewhere(raw, disk);
  expect(copy.asked).toEqual([]);
  expect(next.completions()).toMatchObject([{ context, host: HostStatus.Aborted }]);
  expect(next.read(PvscsiRegister.InterruptMask)).toBe(PvscsiInterrupt.Message);
  expect([next.line, next.read(PvscsiRegister.InterruptStatus)]).toEqual([true, 5]);
  const { sense } = next.run({ cdb: [0, 0, 0, 0, 0, 0] });
  expect([sense[2], sense[12], sense[13]]).toEqual([6, 0x2a, 9]);
  next.write(PvscsiRegister.CommandData, 0);
  next.write(PvscsiRegister.CommandData, 0);
  expect(next.read(PvscsiRegister.CommandStatus)).toBe(0);
  expect(next.run({ cdb: [0, 0, 0, 0, 0, 0] }).sense[13]).toBe(3);
});

test("an adapter without rings", async () => {
  const disk = new FakeBlock(SIZE, { manual: true });
  const { raw } = await elsewhere(new RawPvscsi([disk]), disk);
  raw.setUp();
  expect(raw.run({ cdb: [0, 0, 0, 0, 0, 0] }).sense[12]).toBe(0x29);
});

test("restoring waits for what the adapter itself had in flight, and drops it", async () => {
  const { disk, raw } = started();
  const state = stored(raw.device.save());
  raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8) });
  raw.kick();
  const restoring = raw.device.restore(state);
  expect(restoring).toBeInstanceOf(Promise);
  await disk.release();
  await restoring;
  expect(raw.completions()).toEqual([]);
  // The request is on the ring of that state no longer taken: it is taken now.
  raw.kick();
  await disk.release();
  expect(raw.completions().length).toBe(1);
});

test("at every point of a load: saved, restored, gone on with, nothing lost and nothing twice", async () => {
  const pick = random(7);
  for (let round = 0; round < 20; round++) {
    let { disk, raw } = started();
    const contexts: number[] = [];
    const done: number[] = [];
    for (let step = 0; step < 40; step++) {
      const lane = contexts.length;
      if (pick(3) > 0 && lane - done.length < 24)
        contexts.push(
          raw.push({
            cdb: rw10(pick(2) ? ScsiOp.Read10 : ScsiOp.Write10, lane * 8, 8),
            address: AT.data + 8192 * (lane % 24),
          }),
        );
      if (pick(2) === 0) raw.kick();
      if (disk.waiting > 0 && pick(3) === 0) await disk.release(pick(disk.waiting));
      done.push(...raw.completions().map(({ context }) => context));
      if (pick(12) === 0) {
        const moved = await elsewhere(raw, disk);
        disk = moved.copy;
        raw = moved.raw;
      }
    }
    raw.kick();
    while (disk.waiting > 0) await disk.release();
    done.push(...raw.completions().map(({ context }) => context));
    expect(done.sort((a, b) => a - b)).toEqual(contexts);
  }
});

test("a state that was tampered with is refused, or harmless", async () => {
  const { disk, raw } = started();
  raw.push({ cdb: rw10(ScsiOp.Write10, 0, 8), flags: OUT });
  raw.push({ cdb: rw10(ScsiOp.Read10, 8, 8), flags: IN | LIST, address: raw.list([[AT.data, 8192]]) });
  raw.kick();
  const good = stored(raw.device.save());
  const pick = random(3);
  const values = [-1, 0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 0.5, Number.NaN, 4 << 20, null, "x", []];
  let refused = 0;
  for (let i = 0; i < 300; i++) {
    const state = structuredClone(good) as unknown as Record<string, unknown>;
    // One value somewhere in it.
    let at: Record<string, unknown> = state;
    for (;;) {
      const keys = Object.keys(at);
      const key = keys[pick(keys.length)];
      const inner = at[key];
      if (typeof inner === "object" && inner !== null && Object.keys(inner).length > 0 && pick(8) > 0) {
        at = inner as Record<string, unknown>;
        continue;
      }
      at[key] = values[pick(values.length)];
      break;
    }
    try {
      const { raw: next, copy } = await elsewhere(raw, disk, state as unknown as PvscsiState);
      next.kick();
      while (copy.waiting > 0) await copy.release();
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(ParavaneError);
      expect((thrown as ParavaneError).code).toBe("INVALID");
      refused++;
    }
  }
  expect(refused).toBeGreaterThan(100);
});
