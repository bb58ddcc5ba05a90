import { createHash } from "node:crypto";
import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect } from "vitest";
import { readBytes } from "../../src/host/block/bytes.ts";
import { openFile } from "../../src/node.ts";
import { BrowserRig, CHROMIUM } from "../support/browser.ts";
import { buildDist } from "../support/dist.ts";
import { scratch } from "../support/img.ts";
import { bytesOf, cryptsetup, opensWith, passphraseFile, qemuIoSecret } from "../support/luks.ts";
import { found, peerTest } from "../support/peers.ts";
import { RangeServer } from "../support/range-server.ts";

const at = scratch();
const pass = passphraseFile(at("pass"), "correct horse");
const old = passphraseFile(at("old"), "the first one");
const HASH_WASM = "/node_modules/hash-wasm/dist/index.esm.js";

let rig: BrowserRig;
let server: RangeServer;
beforeAll(async () => {
  await buildDist();
  server = await RangeServer.start();
  server.extra = {
    "access-control-allow-origin": "*",
    "access-control-expose-headers": "content-range, etag, last-modified, content-encoding",
  };
  if (found(CHROMIUM)) rig = await BrowserRig.open(".");
});
afterAll(async () => {
  await rig?.close();
  await server.close();
});
const inPage = <T>(call: string, ...given: unknown[]) =>
  rig.page.evaluate(
    `import("/test/browser/luks.mjs").then((page) => page.${call}(...${JSON.stringify(given)}))`,
  ) as Promise<T>;
/** Needs both. */
const [PEER, INSTALLED] = found(CHROMIUM) ? ["cryptsetup", "cryptsetup-bin"] : [CHROMIUM, "chromium"];
const browserTest = (name: string, body: () => Promise<void>) => peerTest(PEER, INSTALLED, name, body, 120_000);

for (const [name, format, options, target] of [
  ["LUKS1", "luks", { iterations: 1000 }, "driver=luks,key-secret=sec0"],
  ["qcow2 with LUKS", "qcow2", { encryption: { iterations: 1000 } }, "driver=qcow2,encrypt.key-secret=sec0"],
  ["LUKS2", "luks", { version: 2, pbkdf: "pbkdf2", iterations: 1000 }, undefined],
] as const) {
  browserTest(`${name}: a page makes it and changes its passphrase; cryptsetup and QEMU open it`, async () => {
    const made = await inPage<{ good: boolean; refused: string; image: string }>("make", format, options);
    expect(rig.errors).toEqual([]);
    expect([made.good, made.refused]).toEqual([true, "DENIED"]);
    const path = at(name.replaceAll(" ", "-"));
    writeFileSync(path, Buffer.from(made.image, "base64"));
    if (format === "luks") expect([opensWith(path, pass), opensWith(path, old)]).toEqual([true, false]);
    if (target) {
      expect(qemuIoSecret(pass, `${target},file.filename=${path}`, "read -P 0x5a 4k 64k")).not.toContain("fail");
    }
    const disk = await openFile(path, { format, readOnly: true, passphrase: bytesOf("correct horse") });
    expect((await readBytes(disk, 4096, 65536)).every((byte) => byte === 0x5a)).toBe(true);
    await disk.close();
  });
}

for (const [name, wasm, more] of [
  ["LUKS1", undefined, ["--type", "luks1", "--pbkdf-force-iterations", "1000"]],
  ["LUKS2, Argon2", HASH_WASM, ["--type", "luks2", "--pbkdf-memory", "32", "--pbkdf-force-iterations", "4"]],
] as const) {
  browserTest(`${name} that cryptsetup made is read behind HTTP, as in Node`, async () => {
    const path = at(name.replace(", ", "-"));
    writeFileSync(path, "");
    truncateSync(path, 20 << 20);
    cryptsetup("luksFormat", ...more, "--key-file", pass, path);
    const disk = await openFile(path, { format: "luks", readOnly: true, passphrase: bytesOf("correct horse") });
    const here = createHash("sha256")
      .update(await readBytes(disk, 0, 65536))
      .digest("hex");
    await disk.close();
    const url = server.serve(new Uint8Array(readFileSync(path)));
    const there = await inPage<string>("read", url, { format: "luks", passphrase: "correct horse", wasm });
    expect(there).toBe(here);
    await expect(inPage("read", url, { format: "luks", passphrase: "wrong", wasm })).rejects.toThrow(/passphrase/);
  });
}
