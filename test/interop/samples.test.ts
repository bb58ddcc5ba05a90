// Images that other products made, from a folder outside the repository: PARAVANE_SAMPLES=FOLDER npx vitest run
// test/interop/samples.test.ts. Its CATALOG.tsv says of each what is known: file (packed with gzip, ".gz" beside its name), format in QEMU's
// words, maker, virtual bytes, the first 16 hexadecimal digits of the SHA-256 of the guest-visible bytes (-: no peer opens it), and a
// note, in which "refused" means that it is. Those in the repository are in every run of the suites that have them.
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ParavaneError } from "../../src/core/error.ts";
import { readBytes } from "../../src/host/block/bytes.ts";
import type { Disk } from "../../src/host/block/open.ts";
import { mapDisk } from "../../src/host/image/map.ts";
import { openFile } from "../../src/node.ts";

const SAMPLES = process.env.PARAVANE_SAMPLES;
const CATALOG = "CATALOG.tsv";
const RUN = 2 ** 22;
/** Larger disks are compared by size, and by what their map says. */
const MOST = 2 ** 34;

const lines = SAMPLES === undefined ? [] : fs.readFileSync(join(SAMPLES, CATALOG), "utf8").split("\n");
const entries = lines
  .filter((line) => line.trim() !== "" && !line.startsWith("#"))
  .map((line) => {
    const [file, format, , size = "", hash = "", note = ""] = line.split("\t");
    return { file, format, size, hash, note };
  });
const NAMES: Record<string, string> = { vpc: "vhd" };

describe.skipIf(SAMPLES === undefined)("the samples", () => {
  const folder = fs.mkdtempSync(join(tmpdir(), "paravane-samples-"));
  const at = (name: string) => join(folder, name);
  beforeAll(() => {
    for (const name of fs.readdirSync(SAMPLES!)) {
      const path = join(SAMPLES!, name);
      if (name === CATALOG) continue;
      if (name.endsWith(".gz")) fs.writeFileSync(at(basename(name, ".gz")), gunzipSync(fs.readFileSync(path)));
      else fs.symlinkSync(path, at(name));
    }
  });
  afterAll(() => fs.rmSync(folder, { recursive: true }));

  test("are there", () => expect(entries.length).toBeGreaterThan(0));

  test.each(entries)("$file", { timeout: 600_000 }, async ({ file, format, size, hash, note }) => {
    if (/refused/.test(note)) {
      const refused = await opened(at(file)).then(
        () => undefined,
        (error) => error,
      );
      expect(refused).toBeInstanceOf(ParavaneError);
      expect(["CORRUPT", "UNSUPPORTED", "NOT_FOUND", "DENIED"]).toContain(refused.code);
      return;
    }
    const disk = await opened(at(file));
    try {
      expect(disk.format).toBe(NAMES[format] ?? format);
      if (/^\d+$/.test(size)) expect(disk.size).toBe(Number(size));
      const found = disk.size > MOST ? undefined : await hashOf(disk);
      if (/^[0-9a-f]{16}$/.test(hash)) expect(found).toBe(hash);
      if (found !== undefined) return;
      let end = 0;
      for await (const { start, length } of mapDisk(disk)) end = start + length;
      expect(end).toBe(disk.size);
    } finally {
      await disk.close();
    }
  });
});

const opened = (path: string) => openFile(path, { readOnly: true });

async function hashOf(disk: Disk): Promise<string> {
  const hash = createHash("sha256");
  for (let at = 0; at < disk.size; at += RUN) hash.update(await readBytes(disk, at, Math.min(RUN, disk.size - at)));
  return hash.digest("hex").slice(0, 16);
}
