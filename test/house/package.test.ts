import { execFile } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildDist } from "../support/dist.ts";

const run = promisify(execFile);
const tsc = createRequire(import.meta.url).resolve("typescript/bin/tsc");
const EXPORTS = ["paravane", "paravane/node", "paravane/guest", "paravane/lab", "paravane/v86"];
let folder: string;
let files: string[];

const all = (path: string): string[] =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));

/** A consumer's folder with the package in it as npm would publish it. */
beforeAll(async () => {
  await buildDist();
  folder = mkdtempSync(join(tmpdir(), "paravane-test-"));
  const packed = await run("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", folder]);
  const [{ filename }] = JSON.parse(packed.stdout);
  const home = join(folder, "node_modules/paravane");
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  const quiet = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund"];
  await run("npm", ["install", ...quiet, "--prefix", folder, join(folder, filename)], { cwd: folder });
  files = all(home);
}, 120_000);
afterAll(() => rmSync(folder, { recursive: true }));

test("holds what it is made of, and no more", () => {
  const inside = files.map((file) => file.slice(join(folder, "node_modules/paravane/").length));
  expect(
    inside.filter(
      (file) =>
        !/^(dist\/(src|assembly\/spec)\/.*\.(js|d\.ts|js\.map)|docs\/[a-z-]+\.md|[A-Z]+(\.md)?|package\.json)$/.test(
          file,
        ),
    ),
  ).toEqual([]);
  expect(inside.filter((file) => /\btests?\/|\.test\.|debug/.test(file))).toEqual([]);
});

test("every source map carries its source, every relative import its file", () => {
  for (const file of files) {
    const text =
      file.endsWith(".json") || !/^dist\//.test(file.split("node_modules/paravane/")[1])
        ? ""
        : readFileSync(file, "utf8");
    if (file.endsWith(".map")) {
      const { sourcesContent } = JSON.parse(text);
      expect(sourcesContent?.[0], file).toEqual(expect.any(String));
      continue;
    }
    for (const [, name] of text.matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g)) {
      const target = resolve(dirname(file), file.endsWith(".d.ts") ? name.replace(/\.(js|ts)$/, ".d.ts") : name);
      expect(existsSync(target), `${name} in ${file}`).toBe(true);
    }
  }
});

test("its modules load, each by its own name, without a dependency", async () => {
  const script = `for (const name of ${JSON.stringify(EXPORTS)}) {
    const module = await import(name);
    if (Object.keys(module).length < (name === "paravane/v86" ? 1 : 3)) throw new Error(name);
  }`;
  await run(process.execPath, ["--input-type=module", "-e", script], { cwd: folder });
});

test.each([
  ["nodenext", "nodenext"],
  ["esnext", "bundler"],
])(
  "its types stand up in a consumer's strict build (module %s, resolution %s)",
  async (module, moduleResolution) => {
    writeFileSync(join(folder, "use.ts"), EXPORTS.map((name, i) => `export * as m${i} from "${name}";`).join("\n"));
    const compilerOptions = {
      ...{ module, moduleResolution, target: "es2022", lib: ["es2022", "dom"], types: [] },
      ...{ strict: true, skipLibCheck: false, noEmit: true },
    };
    writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["use.ts"] }));
    const outcome = await run(process.execPath, [tsc, "-p", folder]).catch((failed) => failed);
    expect(outcome.stdout).toBe("");
  },
  60_000,
);
