import { expect } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import type { BlockDriver } from "../../src/guest/driver.ts";
import type { LabMachine } from "../../src/hypervisor/machine.ts";
import type { FakeBlock } from "./fake-block.ts";
import { random } from "./fuzz-disk.ts";

const PAGE = 4096;
const LANES = 16;
const REQUESTS = 2000;

export function pageRequest(op: Op, offset: number, length: number, ...pages: number[]): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  made.offset = offset;
  made.length = length;
  for (const [i, page] of pages.entries()) made.segments.push(page, Math.min(PAGE, length - i * PAGE));
  return made;
}

interface Rig {
  machine: LabMachine;
  driver: BlockDriver;
  /** The disk, when it answers only when told to, in any order. */
  held: FakeBlock | undefined;
  /** Bytes of the disk, which is zeros. */
  size: number;
  /** Asks for interrupts only when a poll has found nothing. */
  pollFirst: boolean;
}

/**
 * Reads, writes, flushes, discards and zeroes at random through a guest's driver; what is read is compared with a shadow of the
 * disk, and the interrupts with what the driver asked for.
 */
export async function everyByteComesBack({ machine, driver, held, size, pollFirst }: Rig): Promise<void> {
  const { ram } = machine.guest;
  const pick = random(1);
  const shadow = new Uint8Array(size);
  const noise = Uint8Array.from({ length: 1 << 16 }, () => pick(256));
  // Each lane has its own stretch of the disk and one request at a time, so that order between lanes is free.
  const stretch = size / LANES;
  // Every other page, so that lists have elements.
  const pages = Array.from({ length: LANES }, () => [0, 1, 2, 3].map(() => [ram.allocate(1), ram.allocate(1)][0]));
  const free = Array.from({ length: LANES }, (_, lane) => lane);
  let toDo = REQUESTS;
  const counts = { read: 0, write: 0, flush: 0, discard: 0, zero: 0 };

  const next = (lane: number): BlockRequest => {
    toDo--;
    const length = 512 * (1 + pick(32));
    const offset = lane * stretch + 512 * pick((stretch - length) / 512 + 1);
    const kind = pick(20);
    const used = pages[lane].slice(0, Math.ceil(length / PAGE));
    let made: BlockRequest;
    if (kind < 9) {
      made = pageRequest(Op.Write, offset, length, ...used);
      for (const [i, page] of used.entries()) {
        ram.bytes(page, PAGE).set(noise.subarray(pick(noise.length - PAGE)).subarray(0, PAGE));
        shadow.set(ram.bytes(page, Math.min(PAGE, length - i * PAGE)), offset + i * PAGE);
      }
      counts.write++;
    } else if (kind < 17) {
      made = pageRequest(Op.Read, offset, length, ...used);
      for (const page of used) ram.bytes(page, PAGE).fill(0xee);
      counts.read++;
    } else if (kind === 17) {
      made = pageRequest(Op.Flush, 0, 0);
      counts.flush++;
    } else {
      made = pageRequest(kind === 18 ? Op.Discard : Op.WriteZeroes, offset, length);
      shadow.fill(0, offset, offset + length);
      counts[kind === 18 ? "discard" : "zero"]++;
    }
    made.tag = lane;
    return made;
  };

  let completed = 0;
  const waiting: BlockRequest[] = [];
  const feed = () => {
    while (free.length > 0 && toDo > 0) waiting.push(next(free.pop()!));
    if (waiting.length === 0) return;
    const batch = waiting.splice(0);
    waiting.unshift(...batch.slice(driver.start(batch)));
  };
  driver.onComplete = (finished) => {
    completed++;
    expect(finished.status).toBe(Status.Ok);
    if (finished.op === Op.Read) {
      for (let i = 0; i * PAGE < finished.length; i++) {
        const got = ram.bytes(pages[finished.tag][i], Math.min(PAGE, finished.length - i * PAGE));
        const wanted = shadow.subarray(finished.offset + i * PAGE);
        if (Buffer.compare(got, wanted.subarray(0, got.length)) !== 0) throw new Error("wrong bytes");
      }
    }
    free.push(finished.tag);
    if (pick(3) === 0) feed();
  };
  for (let guard = 0; completed < REQUESTS; guard++) {
    expect(guard).toBeLessThan(10_000);
    feed();
    if (held && held.waiting > 0) await held.release(pick(held.waiting));
  }
  expect(Math.min(...Object.values(counts))).toBeGreaterThan(50);
  if (!pollFirst || held) expect(machine.interruptsDelivered).toBeGreaterThan(10);
  else expect(machine.interruptsDelivered).toBe(0);
}
