// node bench/run-guest.mjs [--quick]: a Linux guest's disks in v86, its own controller and ours, in one run. Wants the packages
// that .ci/run installs for guests; fetches Debian's kernel the first time.
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

process.chdir(fileURLToPath(new URL("..", import.meta.url)));
mkdirSync("build", { recursive: true });
const outfile = "build/bench-guest.mjs";
// The kit is kept under the name of its own sources.
const kit = new URL("../test/guest/kit/kit.ts", import.meta.url);
await build({
  define: { "import.meta.url": JSON.stringify(kit.href) },
  entryPoints: ["bench/guest/main.ts"],
  ...{ outfile, bundle: true, format: "esm", platform: "node", target: "node20", external: ["v86"] },
});
await import(`../${outfile}`);
