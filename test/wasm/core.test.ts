import { expect, test } from "vitest";
import { Core, coreFor, PAGE } from "../../src/wasm/core.ts";

test("views follow a memory that grows", () => {
  const core = new Core(new WebAssembly.Memory({ initial: 1, maximum: 2 }));
  core.set(64, 0x01020304);
  const before = core.u32;
  core.memory.grow(1);
  expect(before).toHaveLength(0);
  expect([core.u8.length, core.u32.length, core.f64.length]).toEqual([2 * PAGE, PAGE / 2, PAGE / 4]);
  expect([core.u8[64], core.get(64)]).toEqual([4, 0x01020304]);
  expect(core.u32).toBe(core.u32);
});

test("one core serves every device of a memory", () => {
  const memory = new WebAssembly.Memory({ initial: 1 });
  expect(coreFor(memory)).toBe(coreFor(memory));
  expect(coreFor(new WebAssembly.Memory({ initial: 1 }))).not.toBe(coreFor(memory));
});

test("a shared memory is refused, with what to do", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  expect(() => new Core(memory)).toThrow(expect.objectContaining({ code: "UNSUPPORTED", hint: expect.any(String) }));
});
