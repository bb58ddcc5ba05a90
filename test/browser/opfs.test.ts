import { afterAll, beforeAll, expect } from "vitest";
import { BrowserRig, CHROMIUM } from "../support/browser.ts";
import { buildDist } from "../support/dist.ts";
import { found, peerTest } from "../support/peers.ts";

let rig: BrowserRig;
beforeAll(async () => {
  await buildDist();
  if (found(CHROMIUM)) rig = await BrowserRig.open(".");
});
afterAll(async () => {
  await rig?.close();
});

peerTest(
  CHROMIUM,
  "chromium",
  "a qcow2 disk in the browser's private file system: made, written, reopened, read",
  async () => {
    const source = `new Promise((resolve, reject) => {
      const worker = new Worker("/test/browser/opfs-worker.mjs", { type: "module" });
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => reject(new Error(event.message));
    })`;
    const { length, ...result } = (await rig.page.evaluate(source)) as { length: number };
    expect(result).toEqual({
      missing: "NOT_FOUND",
      busy: "BUSY",
      readOnly: "READ_ONLY",
      same: true,
      quota: "NO_SPACE",
      lengths: ["NO_SPACE", "NO_SPACE", "NO_SPACE"],
      closed: "CLOSED",
    });
    // It grows as it is written: 8 GiB cost a few clusters of the quota.
    expect(length).toBeLessThan(2 << 20);
  },
  120_000,
);
