import { writeFileSync } from "node:fs";
import { afterAll, beforeAll, expect } from "vitest";
import { BrowserRig, CHROMIUM } from "../support/browser.ts";
import { buildDist } from "../support/dist.ts";
import { qemuImg, scratch } from "../support/img.ts";
import { found, peerTest } from "../support/peers.ts";

const at = scratch();
let rig: BrowserRig;
beforeAll(async () => {
  await buildDist();
  if (found(CHROMIUM)) rig = await BrowserRig.open(".");
}, 120_000);
afterAll(() => rig?.close());
const inPage = <T>(call: string, ...given: unknown[]) =>
  rig.page.evaluate(
    `import("/test/browser/compress.mjs").then((page) => page.${call}(...${JSON.stringify(given)}))`,
  ) as Promise<T>;
const [PEER, INSTALLED] = found(CHROMIUM) ? ["qemu-img", "qemu-utils"] : [CHROMIUM, "chromium"];
const SIZE = 20 * 65536;

function plain(): Buffer {
  const line = "the quick brown fox jumps over the lazy dog\n";
  const disk = Buffer.alloc(2 ** 22);
  for (let i = 0; i < SIZE; i++) disk[2 ** 20 + i] = line.charCodeAt(i % line.length) ^ (i >> 14);
  return disk;
}

for (const [name, options, workers] of [
  ["qcow2, by the platform's own streams", { format: "qcow2" }, 0],
  ["qcow2, on two workers", { format: "qcow2" }, 2],
  ["qcow2 with zstd, by the core", { format: "qcow2", compressionType: "zstd" }, 0],
  ["qcow2 with zstd, on two workers", { format: "qcow2", compressionType: "zstd" }, 2],
  ["VMDK, by the platform's own streams", { format: "vmdk", subformat: "streamOptimized" }, 0],
] as const) {
  peerTest(PEER, INSTALLED, `${name}: a page packs a disk, and QEMU unpacks it`, async () => {
    const made = await inPage<{ image: string; started: number }>("pack", options, SIZE, workers);
    expect(rig.errors).toEqual([]);
    expect(made.started).toBe(workers);
    const image = Buffer.from(made.image, "base64");
    writeFileSync(at("image"), image);
    writeFileSync(at("plain"), plain());
    expect(image.length).toBeLessThan(SIZE / 2);
    expect(qemuImg("compare", "-f", options.format, "-F", "raw", at("image"), at("plain"))).toContain("identical");
    if (options.format === "qcow2") expect(qemuImg("check", at("image"))).toContain("100.00% compressed");
  });
}
