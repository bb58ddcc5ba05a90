import { execFileSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import type { ModelName } from "../../src/lab/models.ts";
import { expectedBytes } from "../../src/lab/plan.ts";
import { buildDist, paravane } from "../support/dist.ts";
import { peerTest } from "../support/peers.ts";

const ALL: ModelName[] = ["bare", "ide-pio", "ide-dma", "xen", "virtio"];
const folder = mkdtempSync(join(tmpdir(), "paravane-interop-"));
const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
const qemuTest = (name: string, body: () => Promise<void>) => peerTest("qemu-img", "qemu-utils", name, body);

beforeAll(buildDist);
afterAll(() => rmSync(folder, { recursive: true }));

/** The lab on that image, then what qemu-img reads in it against what the seed says. */
async function labAgainstQemu(path: string, models: ModelName[], seed: number, args: string[]): Promise<void> {
  const quick = ["--seconds", "0.02", "--queue-depth", "1,8", "--models", models.join(), "--seed", `${seed}`];
  const { code, stdout, stderr } = await paravane(["lab", "--json", "--disk", path, ...quick, ...args]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  const { size } = JSON.parse(stdout).disk;
  const raw = `${path}.raw`;
  qemuImg("convert", "-f", "vpc", "-O", "raw", path, raw);
  expect(statSync(raw).size).toBe(size);
  const fd = openSync(raw, "r");
  const piece = Buffer.alloc(4 << 20);
  let written = 0;
  for (let offset = 0; offset < size; offset += piece.length) {
    const length = Math.min(piece.length, size - offset);
    readSync(fd, piece, 0, length, offset);
    const expected = expectedBytes({ seed, size, models }, offset, length);
    expect(Buffer.compare(piece.subarray(0, length), expected), `bytes from ${offset}`).toBe(0);
    if (expected.some((byte) => byte !== 0)) written++;
  }
  closeSync(fd);
  rmSync(raw);
  // The comparison is of something.
  expect(written).toBeGreaterThanOrEqual(models.length);
}

describe("qemu-img reads what the lab wrote, byte for byte", () => {
  qemuTest("in a VHD that the lab created", async () => {
    const path = join(folder, "ours.vhd");
    await labAgainstQemu(path, ALL, 1, ["--size", "40M"]);
    // There is no check for this format; that it is sound, the two passes of reading say.
    expect(qemuImg("info", path)).toMatch(/file format: vpc/);
  });

  qemuTest("with another seed, size and choice of models", async () => {
    await labAgainstQemu(join(folder, "small.vhd"), ["virtio", "bare"], 4294967295, ["--size", "24M"]);
  });

  qemuTest("in a fixed VHD that qemu-img created", async () => {
    const path = join(folder, "fixed.vhd");
    qemuImg("create", "-q", "-f", "vpc", "-o", "subformat=fixed", path, "48M");
    await labAgainstQemu(path, ["ide-dma", "xen"], 7, ["--overwrite"]);
  });

  qemuTest("in a dynamic VHD that qemu-img created", async () => {
    const path = join(folder, "dynamic.vhd");
    qemuImg("create", "-q", "-f", "vpc", path, "42M");
    await labAgainstQemu(path, ALL, 8, ["--overwrite"]);
  });
});
