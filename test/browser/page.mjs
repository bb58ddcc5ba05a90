// What a page (or Node) does with the built package: no bundler, no import map, relative addresses only.
import { createDisk, MemoryStore, readBytes } from "../../dist/src/index.js";
import { expectedBytes, runLab } from "../../dist/src/lab/index.js";

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The lab on a dynamic VHD in memory, then a digest of the whole disk and of what the seed says it must be. */
export async function lab(size, options) {
  const disk = await createDisk(new MemoryStore(), { format: "vhd", size });
  const result = await runLab(disk, options);
  const found = await sha256(await readBytes(disk, 0, size));
  await disk.close();
  const expected = await sha256(expectedBytes({ ...options, size }, 0, size));
  const rows = result.models.map(({ model, workload, queueDepth, verified, exitsPerRequest }) => {
    return { model, workload, queueDepth, verified, exitsPerRequest };
  });
  return { verified: result.verified, faults: result.faults, rows, found, expected };
}
