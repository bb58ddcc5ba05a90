import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { expect, test } from "vitest";

/**
 * Who may import whom. A room may always import itself; a more specific room is listed before the one that holds it.
 * Guest and host never meet: both know the hypervisor, as front end and back end do.
 */
const RULES: [room: string, may: string[]][] = [
  ["assembly/spec", []],
  ["assembly", ["assembly/spec"]],
  ["src/core", []],
  ["src/wasm", ["src/core", "assembly/spec"]],
  ["src/hypervisor", ["src/core", "src/wasm", "assembly/spec"]],
  ["src/guest", ["src/core", "src/wasm", "src/hypervisor", "assembly/spec"]],
  ["src/host/store", ["src/core"]],
  ["src/host/crypto", ["src/core", "src/wasm"]],
  ["src/host/format", ["src/core", "src/wasm", "assembly/spec", "src/host/crypto"]],
  ["src/host/filter", ["src/core", "src/wasm", "assembly/spec"]],
  ["src/host/block", ["src/core", "src/wasm", "assembly/spec", "src/host/format", "src/host/filter", "src/host/store"]],
  ["src/host/image", ["src/core", "src/wasm", "assembly/spec", "src/host/block", "src/host/format", "src/host/filter"]],
  ["src/host/media", ["src/core"]],
  ["src/host/device", ["src/core", "src/wasm", "assembly/spec", "src/hypervisor", "src/host/block", "src/host/media"]],
  ["src/v86", ["src/core", "src/wasm", "src/hypervisor", "src/host", "assembly/spec"]],
  // Rooms that compose: anything below them, never each other except downwards.
  ["src/index.ts", ["src/core", "src/wasm", "src/hypervisor", "src/host"]],
  ["src/node.ts", ["src/index.ts", "src/core", "src/host", "src/node"]],
  ["src/node", ["src/core", "src/host"]],
  ["src/lab", ["src/core", "src/wasm", "src/hypervisor", "src/guest", "src/host", "assembly/spec"]],
  [
    "src/cli",
    ["src/core", "src/hypervisor", "src/host", "src/v86", "src/lab", "src/index.ts", "src/node.ts", "src/node"],
  ],
];

/** The only places that may name a Node module. */
const NODE = [
  "src/host/store/file.ts",
  "src/host/store/file-transfers.ts",
  "src/host/store/file-holes.ts",
  "src/node.ts",
  "src/node/",
  "src/cli/",
];

/** Third-party packages a shipped file may import; build.mjs inlines this one. */
const PACKAGES: Record<string, string[]> = { "src/wasm/loader.ts": ["@assemblyscript/loader"] };

const files = ["assembly", "src"].flatMap(list).filter((file) => file.endsWith(".ts") && !file.endsWith(".gen.ts"));

function list(path: string): string[] {
  return statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => list(join(path, name))) : [path];
}

function roomOf(file: string): string | undefined {
  return RULES.find(([room]) => file === room || file.startsWith(`${room}/`))?.[0];
}

function importsOf(file: string): string[] {
  const text = readFileSync(file, "utf8");
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"([^"]+)"/g)].map((match) => match[1]);
}

/** Every breach of the rules by `file` importing `specifier`. */
function breach(file: string, specifier: string): string | undefined {
  const room = roomOf(file);
  if (!room) return `${file} stands in no room`;
  if (specifier.startsWith("node:")) {
    return NODE.some((allowed) => file.startsWith(allowed)) ? undefined : `${file} names ${specifier}`;
  }
  if (!specifier.startsWith(".")) {
    return PACKAGES[file]?.includes(specifier) ? undefined : `${file} depends on ${specifier}`;
  }
  const target = relative(".", resolve(dirname(file), specifier));
  const into = roomOf(target);
  if (!into) return `${file} imports ${target}, which stands in no room`;
  const may = RULES.find(([name]) => name === room)![1];
  const allowed = into === room || may.some((name) => into === name || into.startsWith(`${name}/`));
  return allowed ? undefined : `${file} (${room}) imports ${target} (${into})`;
}

test("imports go one way", () => {
  expect(files.length).toBeGreaterThan(20);
  const breaches = files.flatMap((file) => importsOf(file).flatMap((specifier) => breach(file, specifier) ?? []));
  expect(breaches).toEqual([]);
});

test("the rule sees what it forbids", () => {
  expect(breach("src/guest/ata.ts", "../host/device/blkback.ts")).toMatch(/src\/guest.*src\/host/);
  expect(breach("src/host/device/blkback.ts", "../../guest/ata.ts")).toMatch(/imports/);
  expect(breach("src/host/format/vhd.ts", "../store/memory.ts")).toMatch(/imports/);
  expect(breach("src/host/store/memory.ts", "node:fs")).toMatch(/names node:fs/);
  expect(breach("src/core/block.ts", "fflate")).toMatch(/depends on/);
  expect(breach("src/core/block.ts", "./error.ts")).toBeUndefined();
});
