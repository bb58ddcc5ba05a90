// `npm run bench`: bundles bench/main.ts (the twins are TypeScript; Node 20 runs JavaScript) and runs it.
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
mkdirSync("build", { recursive: true });
await build({
  entryPoints: ["bench/main.ts"],
  outfile: "build/bench.mjs",
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
});
await import("../build/bench.mjs");
