import { describe, expect, test } from "vitest";
import { AtaRegister, AtaStatus } from "../../../../assembly/spec/ata.ts";
import { Op, Status } from "../../../../src/core/block.ts";
import { ABORTED, AtaBench, block, checksum, FAILED, IDLE, word } from "../../../support/ata-disk.ts";
import { pattern } from "../../../support/ide.ts";

const SET = 0xf1;
const UNLOCK = 0xf2;
const PREPARE = 0xf3;
const ERASE = 0xf4;
const FREEZE = 0xf5;
const DISABLE = 0xf6;
const USER = block([2, 7, 7, 7]);
const WRONG = block([2, 8]);
const MASTER = block([0, 1], [2, 9, 9], [34, 0x34, 0x12]);
/** Word 128: supported, enabled, locked, frozen, count expired; level. */
const state = (ide: AtaBench) => ide.identify()[128] & 0x011f;
const readable = (ide: AtaBench) => {
  ide.command(0x20, { count: 1 });
  const failed = (ide.altStatus & AtaStatus.Error) !== 0;
  ide.drain();
  return !failed;
};
const locked = (level = 0) => {
  const ide = new AtaBench();
  ide.send(SET, MASTER);
  expect(ide.send(SET, block([1, level], [2, 7, 7, 7]))).toBe(IDLE);
  ide.machine.reset();
  return ide;
};

describe("SECURITY", () => {
  test("a user password enables it; power-on locks; the password unlocks", () => {
    const ide = new AtaBench();
    expect(state(ide)).toBe(0x01);
    expect(ide.send(SET, USER)).toBe(IDLE);
    expect([state(ide), ide.identify()[85] & 2, readable(ide)]).toEqual([0x03, 2, true]);
    ide.machine.reset();
    expect([state(ide), readable(ide)]).toEqual([0x07, false]);
    for (const code of [0x30, 0xc8, 0x25, 0x40, 0xe7, 0xf9, 0xb1, 0x06, 0x45, SET, FREEZE, DISABLE])
      expect([code, ide.command(code, { count: 1, features: 1, ext: true })]).toEqual([code, FAILED]);
    expect(ide.command(0xe5)).toBe(IDLE);
    expect(ide.send(UNLOCK, WRONG)).toBe(FAILED);
    expect(ide.send(UNLOCK, USER)).toBe(IDLE);
    expect([state(ide), readable(ide)]).toEqual([0x03, true]);
    expect(ide.send(DISABLE, WRONG)).toBe(FAILED);
    expect(ide.send(DISABLE, USER)).toBe(IDLE);
    ide.machine.reset();
    expect(state(ide)).toBe(0x01);
  });

  test("SRST neither locks nor thaws", () => {
    const ide = new AtaBench();
    ide.send(SET, USER);
    ide.command(FREEZE);
    ide.write(AtaRegister.Control, 4);
    ide.write(AtaRegister.Control, 0);
    expect(state(ide)).toBe(0x0b);
  });

  test("the master password unlocks at level high, not at maximum", () => {
    const high = locked(0);
    expect(high.send(UNLOCK, MASTER)).toBe(IDLE);
    expect(high.identify()[92]).toBe(0x1234);
    const maximum = locked(1);
    expect(state(maximum)).toBe(0x107);
    expect(maximum.send(UNLOCK, MASTER)).toBe(FAILED);
    expect(maximum.send(UNLOCK, USER)).toBe(IDLE);
    expect(maximum.send(DISABLE, MASTER)).toBe(FAILED);
  });

  test("five wrong passwords, and the sixth is not even taken until power-on", () => {
    const ide = locked();
    for (let i = 0; i < 5; i++) expect(ide.send(UNLOCK, WRONG)).toBe(FAILED);
    expect(state(ide)).toBe(0x17);
    ide.command(UNLOCK);
    expect(ide.ended).toEqual(ABORTED);
    ide.machine.reset();
    expect(ide.send(UNLOCK, USER)).toBe(IDLE);
  });

  test("frozen: everything is refused before any data, freezing again is not", () => {
    const ide = new AtaBench();
    expect([ide.command(FREEZE), ide.command(FREEZE)]).toEqual([IDLE, IDLE]);
    expect(state(ide)).toBe(0x09);
    for (const code of [SET, UNLOCK, PREPARE, ERASE, DISABLE]) {
      ide.command(code);
      expect(ide.ended).toEqual(ABORTED);
    }
    ide.machine.reset();
    expect(ide.send(SET, USER)).toBe(IDLE);
  });

  test("ERASE UNIT right after ERASE PREPARE clears the disk, unlocks it and drops the user password", () => {
    const ide = locked(1);
    ide.block.poke(0, pattern(4096, 1));
    ide.block.poke((131072 - 8) * 512, pattern(4096, 1));
    ide.command(ERASE);
    expect(ide.ended).toEqual(ABORTED);
    ide.command(PREPARE);
    ide.command(0x10);
    ide.command(ERASE);
    expect(ide.ended).toEqual(ABORTED);
    ide.command(PREPARE);
    ide.send(ERASE, WRONG);
    expect(ide.ended).toEqual(ABORTED);
    ide.command(PREPARE);
    // The master password erases at either level.
    expect(ide.send(ERASE, MASTER) & AtaStatus.Busy).toBe(AtaStatus.Busy);
    ide.clock.pass(0);
    expect([ide.irq, ide.status, state(ide), readable(ide)]).toEqual([true, IDLE, 0x101, true]);
    expect([ide.block.peek(0, 4096), ide.block.peek((131072 - 8) * 512, 4096)]).toEqual([
      new Uint8Array(4096),
      new Uint8Array(4096),
    ]);
  });

  test("an erase goes in bounded pieces; SRST ends it; a failure is reported", () => {
    const ide = new AtaBench({ size: 2 ** 31 });
    ide.send(SET, USER);
    ide.command(PREPARE);
    ide.send(ERASE, USER);
    expect(ide.block.log.map(({ op, length }) => [op, length])).toEqual([[Op.WriteZeroes, 2 ** 29]]);
    ide.write(AtaRegister.Control, 4);
    ide.write(AtaRegister.Control, 0);
    expect(ide.altStatus).toBe(AtaStatus.Busy);
    ide.clock.pass(0);
    expect([ide.irq, ide.altStatus, ide.block.log.length, state(ide)]).toEqual([false, IDLE, 1, 0x03]);
    ide.block.faults.push({ op: Op.WriteZeroes, status: Status.Io });
    ide.command(PREPARE);
    expect(ide.send(ERASE, USER)).toBe(FAILED | AtaStatus.DeviceFault);
  });
});

describe("DEVICE CONFIGURATION", () => {
  const identify = (ide: AtaBench) => {
    ide.command(0xb1, { features: 0xc2 });
    return ide.drain();
  };
  /** The settings that IDENTIFY gives, changed, with a sum of zero. */
  const changed = (ide: AtaBench, ...parts: [number, ...number[]][]) => {
    const bytes = identify(ide);
    for (const [at, ...values] of parts) bytes.set(values, at);
    bytes[511] = 0;
    bytes[511] = -checksum(bytes);
    return bytes;
  };
  const set = (ide: AtaBench, data: Uint8Array) => ide.send(0xb1, data, { features: 0xc3 });

  test("IDENTIFY says what there is", () => {
    const data = identify(new AtaBench());
    expect([word(data, 0), word(data, 1), word(data, 2), word(data, 3) | (word(data, 4) << 16), word(data, 7)]).toEqual(
      [2, 7, 0x3f, 131071, 0x01cf],
    );
    expect([data[510], checksum(data)]).toEqual([0xa5, 0]);
  });

  test("SET hides modes, sectors and features; RESTORE brings them back; it outlives power-on", () => {
    const ide = new AtaBench();
    expect(set(ide, changed(ide, [2, 1], [4, 3], [6, 0xff, 0xff, 0], [14, 0x0e, 0]))).toBe(IDLE);
    ide.machine.reset();
    const w = ide.identify();
    expect([w[63] & 0xff, w[88] & 0xff, w[60] + w[61] * 65536, w[82] & 0x0401, w[83] & 0x0700]).toEqual([
      1, 3, 65536, 0, 0,
    ]);
    for (const code of [0xb0, 0xf8, 0x24, 0x27])
      expect(ide.command(code, { features: 0xd0, lba: 0xc24f00, count: 1 })).toBe(FAILED);
    expect(ide.command(0xef, { features: 3, count: 0x42 })).toBe(FAILED);
    ide.command(0x20, { lba: 65536, count: 1 });
    expect(ide.error).toBe(0x10);
    expect(ide.command(0xb1, { features: 0xc0 })).toBe(IDLE);
    expect([ide.identify()[83] & 0x0400, ide.identify()[61]]).toEqual([0x0400, 2]);
  });

  test.each<[string, [number, ...number[]][], number]>([
    ["a mode it has not", [[2, 0x0f]], 1],
    ["a hole in the modes", [[4, 5]], 2],
    ["more sectors than there are", [[10, 1]], 3],
    ["a feature it has not", [[14, 0xff]], 7],
    ["a revision that is not known", [[0, 9]], 0],
  ])("SET with %s is refused, the word in LBA high", (_name, parts, index) => {
    const ide = new AtaBench();
    set(ide, changed(ide, ...parts));
    expect([...ide.ended, ide.read(AtaRegister.LbaHigh)]).toEqual([...ABORTED, index]);
  });

  test("a wrong sum; a protected area; frozen", () => {
    const ide = new AtaBench();
    const bad = changed(ide, [2, 1]);
    bad[511]++;
    set(ide, bad);
    expect([...ide.ended, ide.read(AtaRegister.LbaHigh)]).toEqual([...ABORTED, 255]);
    ide.command(0xf8);
    ide.command(0xf9, { lba: 99 });
    expect([ide.command(0xb1, { features: 0xc0 }), ide.command(0xb1, { features: 0xc3 })]).toEqual([FAILED, FAILED]);
    ide.machine.reset();
    expect(ide.command(0xb1, { features: 0xc1 })).toBe(IDLE);
    for (const features of [0xc0, 0xc1, 0xc2, 0xc3]) expect(ide.command(0xb1, { features })).toBe(FAILED);
    ide.machine.reset();
    expect(identify(ide)).toHaveLength(512);
    expect(ide.command(0xb1, { features: 0xc4 })).toBe(FAILED);
  });
});
