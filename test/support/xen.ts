import { expect } from "vitest";
import { BlockRequest, Op, Status } from "../../src/core/block.ts";
import { type Blkfront, type BlkfrontOptions, connectBlkfront } from "../../src/guest/blkfront.ts";
import { attachBlkback, type BlkbackOptions } from "../../src/host/device/blkback.ts";
import { Hypervisor } from "../../src/hypervisor/hypervisor.ts";
import type { LabMachine } from "../../src/hypervisor/machine.ts";
import { FakeBlock, type FakeOptions } from "./fake-block.ts";

export const MIB = 1 << 20;

export interface Setup {
  back?: BlkbackOptions;
  front?: BlkfrontOptions;
  block?: FakeOptions;
  hypervisor?: Hypervisor;
}

/** A guest connected to a disk of 4 MiB through a Xen ring. */
export function connect({ back, front, block: fake, hypervisor = new Hypervisor() }: Setup = {}) {
  const machine = hypervisor.createMachine({ memory: 16 * MIB });
  const block = new FakeBlock(4 * MIB, fake);
  const device = attachBlkback(hypervisor, machine, block, back);
  const guest = hypervisor.xenGuest(machine);
  const driver = connectBlkfront(guest, front);
  const done: BlockRequest[] = [];
  driver.onComplete = (request) => done.push(request);
  return { hypervisor, machine, guest, block, device, driver, done };
}

/** A request over guest memory: runs of [guest-physical address, bytes]. */
export function request(op: Op, offset: number, runs: [number, number][] = [], length?: number): BlockRequest {
  const made = new BlockRequest();
  made.op = op;
  made.offset = offset;
  for (const [start, bytes] of runs) made.segments.push(start, bytes);
  made.length = length ?? made.segments.total;
  return made;
}

export function pattern(bytes: Uint8Array, seed: number): Uint8Array {
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 31 + seed * 17 + (i >>> 8)) & 0xff;
  return bytes;
}

/** Writes 4 KiB at `offset`, reads it back elsewhere, and compares. */
export function roundTrip(machine: LabMachine, driver: Blkfront, offset: number, seed = offset): void {
  const { ram } = machine.guest;
  const [out, back] = [ram.allocate(1), ram.allocate(1)];
  pattern(ram.bytes(out, 4096), seed);
  for (const each of [request(Op.Write, offset, [[out, 4096]]), request(Op.Read, offset, [[back, 4096]])]) {
    expect(driver.start([each])).toBe(1);
    expect(each.status).toBe(Status.Ok);
  }
  expect(same(ram.bytes(back, 4096), ram.bytes(out, 4096))).toBe(true);
}

/** Equal bytes; vitest's own comparison of arrays takes milliseconds a page. */
export function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
