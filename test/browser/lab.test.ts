import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect } from "vitest";
import { BrowserRig, CHROMIUM } from "../support/browser.ts";
import { buildDist } from "../support/dist.ts";
import { found, peerTest } from "../support/peers.ts";

const SIZE = 32 << 20;
const OPTIONS = {
  models: ["bare", "ide-pio", "ide-dma", "xen", "virtio"],
  seconds: 0.05,
  seed: 7,
  queueDepths: [1, 32],
};

interface Row {
  model: string;
  workload: string;
  queueDepth: number;
  verified: boolean;
  exitsPerRequest: number;
}
interface Outcome {
  verified: boolean;
  faults: unknown[];
  rows: Row[];
  found: string;
  expected: string;
}

let rig: BrowserRig;
beforeAll(async () => {
  await buildDist();
  if (found(CHROMIUM)) rig = await BrowserRig.open(".");
});
afterAll(async () => {
  await rig?.close();
});

const browserTest = (name: string, body: () => Promise<void>) => peerTest(CHROMIUM, "chromium", name, body, 240_000);

/** What a model costs in exits is a property of the model, not of where it runs. */
const exits = (rows: Row[]) =>
  rows
    .filter((row) => row.queueDepth === 1)
    .map((row) => `${row.model} ${row.workload}: ${Math.round(row.exitsPerRequest)}`);

browserTest("the lab in a page: all verified, and the disk ends as in Node and as the seed says", async () => {
  const source = `import("/test/browser/page.mjs").then((page) => page.lab(${SIZE}, ${JSON.stringify(OPTIONS)}))`;
  const inPage = (await rig.page.evaluate(source)) as Outcome;
  const inNode = (await (await import(new URL("./page.mjs", import.meta.url).href)).lab(SIZE, OPTIONS)) as Outcome;

  expect(rig.errors).toEqual([]);
  expect(inPage.faults).toEqual([]);
  expect(inPage.verified).toBe(true);
  expect(inPage.rows.length).toBe(5 * 4 * 2);
  expect(inPage.rows.filter((row) => !row.verified)).toEqual([]);
  expect(inPage.found).toBe(inPage.expected);
  expect(inPage.found).toBe(inNode.found);
  expect(exits(inPage.rows)).toEqual(exits(inNode.rows));
});

browserTest("a page that imports the package meets no Node module and no bare specifier", async () => {
  const scripts = rig.requests.filter((path) => path.startsWith("/dist/") && path.endsWith(".js"));
  expect(scripts.length).toBeGreaterThan(20);
  for (const path of scripts) {
    const text = readFileSync(`.${path}`, "utf8");
    const foreign = [...text.matchAll(/^(?:import|export)\b[^;]*?\bfrom\s*"([^."][^"]*)"/gm)].map((match) => match[1]);
    expect(foreign, path).toEqual([]);
  }
});
