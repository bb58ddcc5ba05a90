import { describe, expect, test } from "vitest";
import { ParavaneError } from "../../src/core/error.ts";

describe("what images put into messages", () => {
  test("stays one line, and nothing that a terminal obeys", () => {
    const name = "a\u001b[2J\r\nparavane: all is well\u009b31m\u202egnp.exe\u2028";
    const error = new ParavaneError("CORRUPT", `names ${name}`, { file: name, offset: 4 }, { hint: `Look at ${name}` });
    for (const text of [error.message, error.hint!, error.describe()]) {
      expect(text).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
      expect(text).toContain("all is well");
    }
    expect(error.context.file).toBe(name);
  });

  test("is cut where it is long, in the middle", () => {
    const { message } = new ParavaneError("CORRUPT", `names ${"x".repeat(1_000_000)}, which cannot be`);
    expect(message.length).toBeLessThan(1100);
    expect(message).toMatch(/^names x+ … x+, which cannot be$/);
  });
});
