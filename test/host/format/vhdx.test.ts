import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { Block } from "../../../src/core/block.ts";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { dataFile } from "../../support/data.ts";

const MiB = 2 ** 20;

async function hash(block: Block): Promise<string> {
  const sha = createHash("sha256");
  for (let at = 0; at < block.size; at += MiB) sha.update(await readBytes(block, at, Math.min(MiB, block.size - at)));
  return sha.digest("hex").slice(0, 16);
}

describe("images of other products", () => {
  test.each([
    ["dissect-vhdx_dynamic.vhdx", 10485760, "8e2b5e9265d694b4"],
    ["discutils-log-replay.vhdx", 1073741824, "3ba3b309425b7ff5"],
  ])("%s", async (name, size, expected) => {
    for (const readOnly of [true, false]) {
      const warnings: string[] = [];
      const disk = await openDisk(new MemoryStore(dataFile(name)), {
        readOnly,
        onWarning: (text) => warnings.push(text),
      });
      expect(disk.format).toBe("vhdx");
      expect(disk.size).toBe(size);
      expect(await hash(disk)).toBe(expected);
    }
  });
  test("x", async () => {
    const store = new MemoryStore();
    const disk = await createDisk(store, { format: "vhdx", size: 100 * MiB });
    await writeBytes(disk, 50 * MiB, new Uint8Array(4096).fill(7));
    await flush(disk);
    expect((await readBytes(disk, 50 * MiB, 4096))[5]).toBe(7);
  });
});
