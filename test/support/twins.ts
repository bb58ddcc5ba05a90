import { expect } from "vitest";
import type { Core } from "../../src/wasm/core.ts";

/** Guest and host have written to the core's memory: the twin's, which was the same before, is given the same. */
export function followCore(core: Core, twin: { i32: Int32Array }): void {
  twin.i32.set(new Int32Array(core.memory.buffer));
}

/** Every byte the same, but for `scratch`: byte ranges [from, to) that nobody looks at between calls. */
export function expectSame(core: Core, twin: { i32: Int32Array }, scratch: [from: number, to: number][] = []): void {
  const ours = Buffer.from(core.memory.buffer);
  const theirs = Buffer.from(twin.i32.buffer);
  for (const [from, to] of scratch) theirs.set(ours.subarray(from, to), from);
  if (ours.equals(theirs)) return;
  const at = ours.findIndex((byte, i) => byte !== theirs[i]);
  expect.fail(`at ${at} the core has ${ours[at]}, the twin ${theirs[at]}`);
}
