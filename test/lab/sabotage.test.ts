import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import binaryen from "binaryen";
import { build } from "esbuild";
import { beforeAll, describe, expect, test } from "vitest";

// The WebAssembly core does the work: whatever part of it is broken, the lab says so.

const WORKER = "./build/lab-worker.mjs";
/** Milliseconds; a sound run takes about one second. */
const LIMIT = 12_000;

const wasm = readFileSync("build/core.wasm");
/** No part of the lab's I/O; test/wasm (scan, unpack, cipher) and test/host/device/pvscsi judge them. */
const ASIDE = [
  ...[
    "zeroRun",
    "incompressible",
    "inflate",
    "adler32",
    "unzstd",
    "zstd",
    "cipherTables",
    "cipherKey",
    "cipherSectors",
  ],
  ...["pvscsiConsume", "pvscsiComplete", "pvscsiMessage"],
];
const names = WebAssembly.Module.exports(new WebAssembly.Module(wasm))
  .map(({ name }) => name)
  .filter((name) => !ASIDE.includes(name));

/** The core with one export that traps, or that does nothing and answers 0. */
function sabotaged(name: string, how: "traps" | "does nothing"): WebAssembly.Module {
  const module = binaryen.readBinary(wasm);
  module.setFeatures(binaryen.Features.All);
  const info = binaryen.getExportInfo(module.getExport(name));
  const old = binaryen.getFunctionInfo(module.getFunction(info.value));
  const nothing = () => {
    if (old.results === binaryen.none) return module.nop();
    return old.results === binaryen.f64 ? module.f64.const(0) : module.i32.const(0);
  };
  module.removeExport(name);
  module.addFunction("sabotaged", old.params, old.results, [], how === "traps" ? module.unreachable() : nothing());
  module.addFunctionExport("sabotaged", name);
  const binary = module.emitBinary();
  module.dispose();
  return new WebAssembly.Module(binary as Uint8Array<ArrayBuffer>);
}

/** What a lab run over that core says: "verified", or what is wrong. */
async function verdict(core: WebAssembly.Module): Promise<string> {
  const worker = new Worker(WORKER, { workerData: core });
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise((resolve, reject) => {
      timer = setTimeout(() => resolve("the lab does not end"), LIMIT);
      worker.once("message", resolve).once("error", reject);
    });
  } finally {
    clearTimeout(timer);
    await worker.terminate();
  }
}

beforeAll(() =>
  build({
    entryPoints: ["test/support/lab-worker.ts"],
    outfile: WORKER,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
  }),
);

test("an untouched core passes", async () => {
  expect(await verdict(new WebAssembly.Module(wasm))).toBe("verified");
});

describe.each(["traps", "does nothing"] as const)("an export that %s fails the lab", (how) => {
  test.each(names)("%s", async (name) => {
    expect(await verdict(sabotaged(name, how))).not.toBe("verified");
  });
});
