// EXECUTE OFF-LINE IMMEDIATE (ATA/ATAPI-6 §8.51). A test reads the medium, a tenth at a time, between the guest's
// commands and at the pace of the machine's clock; what it cannot read ends it and stands in the log.
import { AtaConfigurable, AtaError, AtaRegister, AtaSmart } from "../../../../../assembly/spec/ata.ts";
import { BlockRequest, Op, Status } from "../../../../core/block.ts";
import { type AtaDisk, offers, type Verdict } from "./command.ts";
import { lifeHours, logSelfTest } from "./smart-state.ts";

/** SMART EXECUTE OFF-LINE IMMEDIATE: LBA low. */
const enum Test {
  Offline = 0,
  Short = 1,
  Extended = 2,
  Abort = 0x7f,
  Captive = 0x80,
}

/** SMART READ DATA: self-test execution status, high half. */
const enum Result {
  Passed = 0x0,
  Aborted = 0x1,
  Interrupted = 0x2,
  ReadFailed = 0x7,
}

/** SMART READ DATA: off-line data collection status. */
const enum Offline {
  Completed = 0x02,
  InProgress = 0x03,
  Suspended = 0x04,
  AbortedByHost = 0x05,
  AbortedByDevice = 0x06,
}

/** Sectors of one read, and milliseconds from one to the next. */
const STEP_SECTORS = 128;
const STEP_MS = 2;
/** Reads that a short test, or off-line collection, spends on a tenth of the disk. */
const SHORT_READS = 8;

/** Tests that wait for their next step, and how to forget it. */
const timers = new WeakMap<AtaDisk, () => void>();

export function isExceeded(value: number, threshold: number): boolean {
  return threshold !== 0 && value <= threshold;
}

/** Minutes that an extended test takes at best. */
export function canTest({ config }: AtaDisk): number {
  return Math.min(254, Math.max(1, Math.ceil(((config.sectors / STEP_SECTORS) * STEP_MS) / 60_000)));
}

export function startTest(disk: AtaDisk, number: number): Verdict {
  const { smart } = disk.state;
  const kind = number & ~Test.Captive;
  const captive = (number & Test.Captive) !== 0;
  if (number === Test.Abort) {
    if (smart.test) endTest(disk, Result.Aborted);
    return true;
  }
  const known = kind === Test.Short || kind === Test.Extended || number === Test.Offline;
  if (!known || !offers(disk, AtaConfigurable.SelfTest)) return false;
  // A new one ends what is under way.
  if (smart.test) endTest(disk, Result.Aborted);
  smart.test = { number, captive, done: 0, next: -1, due: 0 };
  if (number === Test.Offline) smart.offlineStatus = Offline.InProgress;
  wait(disk, STEP_MS);
  if (!captive) return true;
  // BSY until it has ended; `endTest` answers.
  return "answered";
}

/** A reset, or STANDBY IMMEDIATE: result 2 or 1. */
export function interruptTest(disk: AtaDisk, byReset: boolean): void {
  if (disk.state.smart.test) endTest(disk, byReset ? Result.Interrupted : Result.Aborted);
}

/** After a restore: `due` is then how long to wait. */
export function resumeTest(disk: AtaDisk): void {
  const { test } = disk.state.smart;
  if (!test) return;
  // A read that had not come back is asked for again at once.
  if (test.due === 0) step(disk);
  else wait(disk, test.due);
}
export function forgetTimer(disk: AtaDisk): void {
  timers.get(disk)?.();
  timers.delete(disk);
}

function wait(disk: AtaDisk, ms: number): void {
  forgetTimer(disk);
  const { test } = disk.state.smart;
  if (test) test.due = disk.port.clock.now() + ms;
  timers.set(
    disk,
    disk.port.clock.after(ms, () => step(disk)),
  );
}

/** The sectors of the next read: the tenth whole for an extended test, places spread over it for the others. */
function step(disk: AtaDisk): void {
  const { state, config } = disk;
  const { test } = state.smart;
  if (!test) return;
  const from = Math.floor((config.sectors * test.done) / 10);
  const to = Math.floor((config.sectors * (test.done + 1)) / 10);
  const at = Math.max(from, test.next);
  const length = Math.min(STEP_SECTORS, to - at);
  const extended = (test.number & ~Test.Captive) === Test.Extended;
  const stride = extended ? STEP_SECTORS : Math.max(STEP_SECTORS, Math.ceil((to - from) / SHORT_READS));
  const bad = state.uncorrectable.find(([first, end]) => first < at + length && end > at);
  if (length <= 0) {
    move(disk, at + stride, to);
    return;
  }
  if (bad) {
    endTest(disk, Result.ReadFailed, Math.max(at, bad[0]));
    return;
  }
  const request = new BlockRequest();
  request.op = Op.Read;
  request.offset = at * config.sectorBytes;
  request.length = length * config.sectorBytes;
  request.memory = new Uint8Array(request.length);
  // It stays in the drive.
  request.unchecked = true;
  request.segments.push(0, request.length);
  const ended = () => {
    if (state.smart.test !== test) return;
    const { error } = request;
    const offset = error?.context.offset;
    const named = offset !== undefined && offset >= request.offset && offset < request.offset + request.length;
    if (request.status === Status.Ok) move(disk, at + stride, to);
    else endTest(disk, Result.ReadFailed, named ? Math.floor(offset / config.sectorBytes) : at);
  };
  // Beside the drive's error policy: a test is there to find what is bad.
  try {
    const later = config.block.submit([request]);
    if (later) later.then(ended, ended);
    else ended();
  } catch {
    ended();
  }
}

function move(disk: AtaDisk, next: number, to: number): void {
  const test = disk.state.smart.test;
  if (!test) return;
  test.next = next;
  if (next >= to) {
    test.done++;
    test.next = -1;
  }
  if (test.done === 10) endTest(disk, Result.Passed);
  else wait(disk, STEP_MS);
}

function endTest(disk: AtaDisk, result: Result, lba = -1): void {
  const { port, state } = disk;
  const { smart } = state;
  const test = smart.test;
  forgetTimer(disk);
  if (!test) return;
  smart.test = null;
  if (test.number === Test.Offline) {
    const failed = result === Result.ReadFailed ? Offline.AbortedByDevice : Offline.AbortedByHost;
    smart.offlineStatus = result === Result.Passed ? Offline.Completed : failed;
    return;
  }
  smart.testStatus = (result << 4) | (result === Result.Passed ? 0 : 10 - test.done);
  logSelfTest(smart, {
    number: test.number,
    status: smart.testStatus,
    hours: lifeHours(smart, port.clock.now()),
    lba,
  });
  if (!test.captive) return;
  // A captive test that fails says so where RETURN STATUS would.
  if (result === Result.Passed) port.done();
  else {
    port.setRegister(AtaRegister.LbaMid, AtaSmart.Exceeded);
    port.setRegister(AtaRegister.LbaHigh, AtaSmart.Exceeded >> 8);
    port.fail(AtaError.Abort);
  }
}
