import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { FORMATS } from "../../src/host/format/index.ts";

/** Where the fuzz of a format is that has no file of its own here. */
const ELSEWHERE: Record<string, string> = {
  "parallels-bundle": "../host/format/parallels-bundle.test.ts",
  ...Object.fromEntries(
    ["qed", "qcow", "bochs", "cloop", "dmg", "ova", "sparseimage", "sparsebundle"].map((name) => [
      name,
      "read-only.test.ts",
    ]),
  ),
};

test("every format but raw, in which nothing can be damaged, is fuzzed", () => {
  const suites = readdirSync(new URL(".", import.meta.url));
  const missing = FORMATS.map(({ name }) => name).filter((name) => {
    if (name === "raw" || suites.includes(`${name}.test.ts`)) return false;
    const suite = ELSEWHERE[name] && readFileSync(new URL(ELSEWHERE[name], import.meta.url), "utf8");
    return !suite || !/\brandom\(|fuzzImages\(/.test(suite) || !new RegExp(`\\b${name}\\b`).test(suite);
  });
  expect(missing).toEqual([]);
});
