// node bench/run-v86.mjs FOLDER: our IDE controller against v86's own, in one run. FOLDER is a checkout of
// https://github.com/copy/v86, of which src/ide.js is used as it is; its package does not have the controller as a module.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const BUNDLE = "build/bench-v86.mjs";
const CASES = [
  "PIO read, 16 bits",
  "PIO read, rep insw",
  "PIO write, 16 bits",
  "READ DMA, 4 KiB",
  "WRITE DMA, 4 KiB",
  "READ DMA, 64 KiB in 16 pages",
];

const ABSENT = `export class CPU {} export class BusConnector {}
  export const CMOS_BIOS_DISKTRANSFLAG = 0, CMOS_DISK_DATA = 0, CMOS_DISK_DRIVE1_CYL = 0, CMOS_DISK_DRIVE2_CYL = 0;`;

const folder = resolve(process.argv[2] ?? "v86");
if (!existsSync(`${folder}/src/ide.js`)) {
  console.error(
    `no src/ide.js in ${folder}\nusage: node bench/run-v86.mjs FOLDER, a checkout of https://github.com/copy/v86`,
  );
  process.exit(2);
}
process.chdir(fileURLToPath(new URL("..", import.meta.url)));
mkdirSync("build", { recursive: true });
await build({
  stdin: {
    contents: `import { IDEController } from ${JSON.stringify(`${folder}/src/ide.js`)};
      import { main } from "./bench/v86/main.ts";
      main(IDEController, process.argv[2]);`,
    resolveDir: ".",
  },
  outfile: BUNDLE,
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  // As its release build has it.
  define: { DEBUG: "false" },
  minifySyntax: true,
  plugins: [
    {
      name: "the controller alone",
      setup({ onResolve, onLoad }) {
        // Types for comments, and where the geometry goes in a clock chip that is not here.
        onResolve({ filter: /\/(cpu|bus|rtc|browser\/[a-z_]+)\.js$/ }, ({ path }) => ({ path, namespace: "absent" }));
        // Its release build's compiler drops assertions with what they would say, esbuild would go on making the text.
        onLoad({ filter: /\/src\/ide\.js$/ }, ({ path }) => ({
          contents: readFileSync(path, "utf8").replace(/^\s*dbg_assert\(.*\);$/gm, ""),
        }));
        onLoad({ filter: /.*/, namespace: "absent" }, () => ({ contents: ABSENT }));
      },
    },
  ],
});
// Each case in a process of its own, so that no figure depends on what V8 learnt from the one before.
for (const name of CASES) execFileSync(process.execPath, [BUNDLE, name], { stdio: "inherit" });
