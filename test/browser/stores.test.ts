import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { BrowserRig, CHROMIUM } from "../support/browser.ts";
import { dataFile } from "../support/data.ts";
import { buildDist } from "../support/dist.ts";
import { found, peerTest } from "../support/peers.ts";
import { RangeServer } from "../support/range-server.ts";

/** A disk of 4 MiB. */
const IMAGE = dataFile("dfvfs-ext2.qcow2");
/** What a server says so that pages of other origins may read from it, and see what the store goes by. */
const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "content-range, etag, last-modified, content-encoding",
};

let rig: BrowserRig;
let server: RangeServer;
beforeAll(async () => {
  await buildDist();
  server = await RangeServer.start();
  server.extra = CORS;
  if (found(CHROMIUM)) rig = await BrowserRig.open(".");
});
afterAll(async () => {
  await rig?.close();
  await server.close();
});

interface Outcome {
  size: number;
  format: string;
  readOnly: boolean;
  before: string;
  written: string;
  reopened: string;
  image: string;
}
const inPage = <T>(call: string, url: string) =>
  rig.page.evaluate(
    `import("/test/browser/stores.mjs").then((page) => page.${call}(${JSON.stringify(url)}))`,
  ) as Promise<T>;
const inNode = async <T>(call: string, url: string): Promise<T> =>
  (await import(new URL("./stores.mjs", import.meta.url).href))[call](url);
const browserTest = (name: string, body: () => Promise<void>) => peerTest(CHROMIUM, "chromium", name, body, 240_000);

for (const call of ["overHttp", "overBlob"]) {
  browserTest(`${call}: a qcow2 is read, written over by another qcow2, and read again, as in Node`, async () => {
    const url = server.serve(IMAGE);
    const page = await inPage<Outcome>(call, url);
    const node = await inNode<Outcome>(call, url);
    expect(rig.errors).toEqual([]);
    expect(page).toMatchObject({ format: "qcow2", readOnly: true });
    expect(page.reopened).toBe(page.written);
    expect(page.written).not.toBe(page.before);
    expect(page).toEqual(node);

    // What the page made is an image to QEMU too, over the base it names.
    const folder = fs.mkdtempSync(join(tmpdir(), "paravane-page-"));
    try {
      fs.writeFileSync(join(folder, "base.qcow2"), IMAGE);
      fs.writeFileSync(join(folder, "over.qcow2"), Buffer.from(page.image, "base64"));
      execFileSync("qemu-img", ["check", join(folder, "over.qcow2")]);
      for (const [name, digest] of [
        ["base", page.before],
        ["over", page.written],
      ]) {
        execFileSync("qemu-img", ["convert", "-O", "raw", join(folder, `${name}.qcow2`), join(folder, "raw")]);
        expect(
          createHash("sha256")
            .update(fs.readFileSync(join(folder, "raw")))
            .digest("hex"),
        ).toBe(digest);
      }
    } finally {
      fs.rmSync(folder, { recursive: true });
    }
  });
}

browserTest("a server that hides what tells versions apart is refused, with what it has to send", async () => {
  const url = server.serve(IMAGE);
  server.extra = { "access-control-allow-origin": "*" };
  expect(await inPage<string>("refusal", url)).toMatch(/^UNSUPPORTED .*whether the file changes/);
  server.extra = CORS;
  expect(await inPage<string>("refusal", url)).toBe("none");
});
