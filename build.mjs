// Builds everything: WASM core (release, debug, traced) → generated modules → types and JavaScript → inlined loader.
// `node build.mjs --core` stops after the generated modules, which is all that the tests need.
import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const root = dirname(fileURLToPath(import.meta.url));
process.chdir(root);
const require = createRequire(import.meta.url);
const run = promisify(execFile);
const node = (script, ...args) => run(process.execPath, [script, ...args]).catch(fail);

function fail(error) {
  process.stderr.write(`${error.stdout ?? ""}${error.stderr ?? error}\n`);
  process.exit(1);
}

/** Every file under `path` (a file or a folder) with a source ending, sorted. */
function sources(path) {
  if (!existsSync(path)) return [];
  if (statSync(path).isFile()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => sources(join(path, name)))
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".gen.ts"));
}

/** Writes only what changed, so that nothing downstream rebuilds for nothing. */
function write(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text);
}

// --- the core ---------------------------------------------------------------------------------------------------------

const newest = Math.max(
  ...[...sources("assembly"), "asconfig.json", "build.mjs"].map((file) => statSync(file).mtimeMs),
);
const targets = ["release", "debug", "traced"].filter((target) => {
  const out = JSON.parse(readFileSync("asconfig.json", "utf8")).targets[target].outFile;
  return !existsSync(out) || statSync(out).mtimeMs < newest;
});
mkdirSync("build", { recursive: true });
const asc = join(dirname(require.resolve("assemblyscript/package.json")), "bin", "asc.js");
await Promise.all(targets.map((target) => node(asc, "--config", "asconfig.json", "--target", target)));

const embed = (wasm) =>
  `// Written by build.mjs from ${wasm}.\nexport const CORE_WASM =\n  "${readFileSync(wasm).toString("base64")}";\n`;
write("src/wasm/core.gen.ts", embed("build/core.wasm"));
write("src/wasm/core.debug.gen.ts", embed("build/core.debug.wasm"));

// --- how much code each device model is (the lab quotes it) -------------------------------------------------------------

/** Lines that are neither blank nor comment. */
function codeLines(file) {
  const text = readFileSync(file, "utf8").replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ""));
  return text.split("\n").filter((line) => line.trim() !== "" && !line.trim().startsWith("//")).length;
}
const count = (...paths) => paths.flatMap(sources).map((file) => ({ file, lines: codeLines(file) }));
const ofCds = (file) => file.includes("/ide/atapi/") || file.endsWith("/ide/packet.ts");
const lines = {
  // What it takes to be an IDE disk: task file, decode, IDENTIFY, PRDs and the controller that executes them.
  ide: count("assembly/ide", "assembly/spec/ata.ts", "assembly/spec/ide.ts", "src/host/device/ide").filter(
    ({ file }) => !ofCds(file),
  ),
  // What it takes to be a Xen block back end: ring, request layouts, and the driver that executes them.
  backend: count(
    "assembly/ring/xen.ts",
    "assembly/ring/blkif.ts",
    "assembly/spec/xen.ts",
    "assembly/spec/xen-context.ts",
    "src/host/device/blkback.ts",
    "src/host/device/blkback-ring.ts",
  ),
};
write(
  "src/lab/lines.gen.ts",
  `// Counted by build.mjs: lines without comments and blanks.\nexport const CODE_LINES = ${JSON.stringify(lines, null, 2)};\n`,
);

if (process.argv.includes("--core")) process.exit(0);

// --- the package --------------------------------------------------------------------------------------------------------

rmSync("dist", { recursive: true, force: true });
await node(require.resolve("typescript/bin/tsc"), "-p", "tsconfig.json");
const { build } = await import("esbuild");
const license = readFileSync(join(dirname(require.resolve("assemblyscript/package.json")), "LICENSE"), "utf8");
const banner = `/* @assemblyscript/loader, inlined.\n${license.replaceAll("*/", "* /")}*/`;
const bundle = { bundle: true, format: "esm", target: "es2022", allowOverwrite: true };
await build({
  ...bundle,
  entryPoints: ["src/wasm/loader.ts"],
  outfile: "dist/src/wasm/loader.js",
  banner: { js: banner },
});
rmSync("dist/src/wasm/loader.js.map"); // of the module before its dependency was inlined
// The command line is a few files, each loaded when it is needed: loading its 150 modules one by one takes longer than many
// a command.
const cli = "dist/src/cli";
rmSync(cli, { recursive: true }); // tsc's, module by module
await build({
  ...bundle,
  entryPoints: ["src/cli/main.ts", "src/cli/copy-worker.ts"],
  outdir: cli,
  splitting: true,
  chunkNames: "[name]-[hash]",
  platform: "node",
  packages: "external",
  alias: { "@assemblyscript/loader": require.resolve("@assemblyscript/loader") },
  banner: { js: banner },
});
chmodSync(`${cli}/main.js`, 0o755);
