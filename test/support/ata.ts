import { BlockRequest, type Op, Status } from "../../src/core/block.ts";
import type { BlockDriver } from "../../src/guest/driver.ts";
import type { GuestCpu } from "../../src/hypervisor/machine.ts";

/** A request over guest-physical runs `[address, length]…`. */
export function guestRequest(op: Op, offset: number, ...runs: [address: number, length: number][]): BlockRequest {
  const request = new BlockRequest();
  request.op = op;
  request.offset = offset;
  for (const [address, length] of runs) request.segments.push(address, length);
  request.length = request.segments.total;
  return request;
}

/** Runs one request through a driver, to its end. */
export function runRequest(driver: BlockDriver, request: BlockRequest): Promise<Status> {
  request.status = Status.Pending;
  return new Promise((resolve, reject) => {
    driver.onComplete = (done) => resolve(done.status);
    if (driver.start([request]) !== 1) reject(new Error("the driver took nothing"));
  });
}

/** Bytes that differ in every sector and from seed to seed. */
export function fillPattern(cpu: GuestCpu, address: number, length: number, seed: number): Uint8Array {
  const bytes = cpu.ram.bytes(address, length);
  let state = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes.slice();
}
