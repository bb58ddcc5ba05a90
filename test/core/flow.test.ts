import { expect, test } from "vitest";
import { type Flow, run, wait } from "../../src/core/flow.ts";

function* add(a: number | Promise<number>, b: number | Promise<number>): Flow<number> {
  return (yield* wait(a)) + (yield* wait(b));
}

test("a flow over values answers at once, over promises later", async () => {
  expect(run(add(1, 2))).toBe(3);
  const later = run(add(1, Promise.resolve(2)));
  expect(later).toBeInstanceOf(Promise);
  expect(await later).toBe(3);
});

test("a rejection arrives where the flow waited, and can be handled there", async () => {
  function* forgiving(): Flow<string> {
    try {
      yield Promise.reject(new Error("disk on fire"));
      return "not reached";
    } catch (error) {
      return (error as Error).message;
    }
  }
  expect(await run(forgiving())).toBe("disk on fire");
});

test("what a flow throws leaves run the way it came: thrown or rejected", async () => {
  function* bad(pending: Promise<void> | undefined): Flow {
    if (pending) yield pending;
    throw new Error("no");
  }
  expect(() => run(bad(undefined))).toThrow("no");
  await expect(run(bad(Promise.resolve()))).rejects.toThrow("no");
});
