import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ParavaneError } from "../../../src/core/error.ts";
import { run } from "../../../src/core/flow.ts";
import { readBytes } from "../../../src/host/block/bytes.ts";
import { openDisk } from "../../../src/host/block/open.ts";
import { sparsebundle } from "../../../src/host/format/sparsebundle/index.ts";
import { sparseimage } from "../../../src/host/format/sparseimage/index.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";
import { ours, scratch } from "../../support/img.ts";
import { mixed, sparseBundle, sparseImage } from "../../support/read-only.ts";
import { LateStore } from "../../support/stores.ts";

const SIZE = 1 << 20;
const CONTENT = mixed(SIZE);
const at = scratch();
const same = (bytes: Uint8Array, wanted: Uint8Array) => expect(Buffer.compare(bytes, wanted)).toBe(0);

describe("sparse images", () => {
  const opening = (bytes: Uint8Array) => openDisk(new KeptStore(bytes), { format: "sparseimage", readOnly: true });
  const patched = (changes: [at: number, value: number][], bytes = sparseImage(CONTENT)) => {
    const copy = bytes.slice();
    for (const [position, value] of changes) new DataView(copy.buffer).setUint32(position, value);
    return copy;
  };

  test("bands in any order, in several nodes, and a last one that is a part", async () => {
    for (const [size, bandBytes] of [
      [SIZE, 512],
      [SIZE - 512, 65536],
      [SIZE - 16384 - 512, 4096],
    ]) {
      const disk = await opening(sparseImage(CONTENT.slice(0, size), bandBytes));
      expect(disk.size).toBe(size);
      same(await readBytes(disk, 0, size), CONTENT.subarray(0, size));
      await disk.close();
    }
    const none = await opening(sparseImage(new Uint8Array(SIZE)));
    expect(await none.places(0, SIZE)).toEqual([{ length: SIZE, kind: "hole", depth: 0 }]);
  });

  test("an image that has its size in the older field alone", async () => {
    same(await readBytes(await opening(patched([[32, 0]])), 0, SIZE), CONTENT);
  });

  test.each<[string, [number, number][], string]>([
    ["no magic", [[0, 0]], "CORRUPT: the sparse image header has no magic"],
    ["another version", [[4, 4]], "UNSUPPORTED: version 4 of Apple sparse images"],
    ["bands of nothing", [[8, 0]], "CORRUPT: the sparse image header says that a band has 0 bytes"],
    ["two sizes", [[16, 7]], "CORRUPT: the sparse image header says 2048 sectors, and 7 elsewhere"],
    ["a band behind the end", [[64, 65]], "CORRUPT: the band index node names band 65, of 64"],
    ["a band in two places", [[64, 1]], "CORRUPT: the band index node names band 1, of 64, which another entry has"],
    ["a next node that is before", [[24, 100]], "CORRUPT: the band index node says that the next one is at byte 100"],
    ["a next node that is none", [[24, 4096]], "CORRUPT: the band index node has no magic"],
  ])("%s", async (_, changes, said) => {
    const found = await opening(patched(changes)).then(
      () => "opened",
      ({ code, message }) => `${code}: ${message}`,
    );
    expect(found).toContain(said);
  });

  test("a file that is cut off says which band is not there", async () => {
    const cut = sparseImage(CONTENT).slice(0, -100);
    await expect(readBytes(await opening(cut), 0, 512)).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("passes the end of the file"),
    });
    expect(run(sparseimage.check!(new KeptStore(cut)))).toMatchObject({ corruptions: 1, totalClusters: 64 });
  });
});

describe("sparse bundles", () => {
  const { info, files } = sparseBundle(CONTENT, 4096);
  const text = (value = info) => new KeptStore(new TextEncoder().encode(value));
  /** Counts what is open. */
  function opener(more: Record<string, Uint8Array> = {}, late = false) {
    const count = { open: 0, most: 0 };
    class Counted extends MemoryStore {
      override close(): void {
        count.open--;
        super.close();
      }
    }
    const openFile = (name: string) => {
      const bytes = { ...files, ...more }[name];
      if (!bytes) throw new ParavaneError("NOT_FOUND", `there is no ${name}`);
      count.most = Math.max(count.most, ++count.open);
      const store = new Counted(bytes);
      return late ? new LateStore(store) : store;
    };
    return { openFile, count };
  }

  test("is read, with a bounded number of files open, which are closed", async () => {
    for (const late of [false, true]) {
      const { openFile, count } = opener({}, late);
      const disk = await openDisk(text(), { readOnly: true, openFile });
      same(await readBytes(disk, 0, SIZE), CONTENT);
      await Promise.all(
        Array.from({ length: 100 }, async (_, i) => {
          const from = ((i * 37) % 200) * 4096 + 512;
          same(await readBytes(disk, from, 30_720), CONTENT.subarray(from, from + 30_720));
        }),
      );
      expect(count.open).toBeGreaterThan(30);
      expect(count.most).toBeLessThan(120);
      await disk.close();
      expect(count.open).toBe(0);
    }
    const { openFile, count } = opener();
    expect(run(sparsebundle.check!(text(), { openFile }))).toMatchObject({ corruptions: 0, totalClusters: 256 });
    expect(count.open).toBe(0);
  });

  test("from a folder, on the command line", async () => {
    for (const [name, bytes] of [["Info.plist", Buffer.from(info)], ...Object.entries(files)] as const) {
      mkdirSync(at("x.sparsebundle/bands"), { recursive: true });
      writeFileSync(at(`x.sparsebundle/${name}`), bytes);
    }
    writeFileSync(at("x.raw"), CONTENT);
    expect(await ours("compare", "-F", "raw", at("x.sparsebundle"), at("x.raw"))).toMatchObject({ code: 0 });
    expect((await ours("check", at("x.sparsebundle"))).stdout).toContain("No errors");
    expect((await ours("info", at("x.sparsebundle"))).stdout).toContain("file format: sparsebundle");
  });

  test.each<[string, string, Record<string, Uint8Array>, string]>([
    [
      "another type",
      info.replace("image.sparse", "image.other"),
      {},
      "CORRUPT: the property list is of a bundle of type",
    ],
    ["another version", info.replace("<integer>1<", "<integer>2<"), {}, "UNSUPPORTED: version 2 of sparse bundles"],
    ["odd bands", info.replace(">4096<", ">4097<"), {}, "CORRUPT: the property list says that band-size is 4097"],
    ["no size", info.replace(">size<", ">sizes<"), {}, "CORRUPT: the property list says that size is undefined"],
    ["no list", info.replace("</dict>", ""), {}, "CORRUPT: the property list cannot be read"],
    ["encryption", info, { token: Buffer.from("encrcdsa\0\0\0\x02") }, "UNSUPPORTED: the sparse bundle is encrypted"],
  ])("refused: %s", async (_, changed, more, said) => {
    const found = await openDisk(text(changed), { format: "sparsebundle", readOnly: true, ...opener(more) }).then(
      () => "opened",
      ({ code, message }) => `${code}: ${message}`,
    );
    expect(found).toContain(said);
  });

  test("a band that is too long, and no files", async () => {
    const { openFile } = opener({ "bands/0": new Uint8Array(4097) });
    const disk = await openDisk(text(), { readOnly: true, openFile });
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "CORRUPT" });
    expect(run(sparsebundle.check!(text(), { openFile }))).toMatchObject({ corruptions: 1 });
    expect(() => run(sparsebundle.check!(text()))).toThrow(/was not given/);
  });
});

test("images that macOS has encrypted are refused by name, with what to do", async () => {
  const first = new Uint8Array(4096);
  first.set(Buffer.from("cdsaencr"), 4088);
  const second = new Uint8Array(4096);
  second.set(Buffer.from("encrcdsa\0\0\0\x02"));
  for (const bytes of [first, second]) {
    await expect(openDisk(new KeptStore(bytes, { name: "x.dmg" }), { readOnly: true })).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: "it is an encrypted dmg image",
      hint: expect.stringContaining("hdiutil convert x.dmg -format UDZO"),
    });
  }
});
