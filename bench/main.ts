import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import type { Bench } from "./bench.ts";
import { compare, type Result } from "./harness.ts";
import { mapBenches } from "./map.ts";

const all: Bench[] = [...mapBenches];
for (const bench of all) {
  if (process.argv[2] && !bench.name.includes(process.argv[2])) continue;
  const r = compare(bench.contestants(), bench.operations);
  console.log(bench.name, r.map((x) => `${x.name} ${x.nsPerOperation.toFixed(1)} (${x.ratio.toFixed(2)})`).join("  "));
}
