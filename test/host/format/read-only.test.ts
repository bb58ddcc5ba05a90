import { describe, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import type { CheckReport } from "../../../src/core/format.ts";
import { readBytes } from "../../../src/host/block/bytes.ts";
import { openDisk } from "../../../src/host/block/open.ts";
import { FORMATS } from "../../../src/host/format/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { bochsImage, cloopImage, mixed, qcow1Image, qedImage } from "../../support/read-only.ts";

const CONTENT = mixed(1 << 20);
const check = (format: string, bytes: Uint8Array) =>
  run(FORMATS.find(({ name }) => name === format)!.check!(new KeptStore(bytes))) as CheckReport;
const opening = (format: string, bytes: Uint8Array) =>
  openDisk(new KeptStore(bytes), { format, readOnly: true }).then(
    () => "opened",
    ({ code, message }) => `${code}: ${message}`,
  );
/** A copy with 64-bit words, or bytes, changed. */
function patched(bytes: Uint8Array, change: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const copy = bytes.slice();
  change(new DataView(copy.buffer), copy);
  return copy;
}
const IMAGES = {
  qed: qedImage(CONTENT),
  qcow: qcow1Image(CONTENT),
  bochs: bochsImage(CONTENT),
  cloop: cloopImage(CONTENT),
};

describe("damage is refused, naming what and where", () => {
  test.each<[keyof typeof IMAGES, string, (view: DataView, bytes: Uint8Array) => void, RegExp]>([
    ["qed", "no magic", (_, b) => b.fill(0, 0, 4), /CORRUPT: the header has no magic/],
    ["qed", "odd clusters", (v) => v.setUint32(4, 5000, true), /CORRUPT: .*cluster has 5000/],
    ["qed", "large tables", (v) => v.setUint32(8, 32, true), /CORRUPT: .*table has 32/],
    ["qed", "no room for itself", (v) => v.setUint32(12, 0, true), /CORRUPT: .*has 0 clusters/],
    ["qed", "features", (v) => v.setUint32(16, 0x18, true), /UNSUPPORTED: .*0x18/],
    ["qed", "an L1 table past the end", (v) => v.setBigUint64(40, 2n ** 40n, true), /CORRUPT: .*no L1 table/],
    ["qed", "a huge disk", (v) => v.setBigUint64(48, 2n ** 60n, true), /CORRUPT: .*disk has/],
    ["qed", "half a sector", (v) => v.setBigUint64(48, 1000n, true), /CORRUPT: .*1000 bytes/],
    ["qcow", "clusters of 256 bytes", (_, b) => b.fill(8, 32, 33), /CORRUPT: .*2\^8/],
    ["qcow", "small tables", (_, b) => b.fill(5, 33, 34), /CORRUPT: .*2\^5/],
    ["qcow", "a cipher", (v) => v.setUint32(36, 2), /UNSUPPORTED: .*method 2/],
    ["qcow", "a huge disk", (v) => v.setBigUint64(24, 2n ** 60n), /CORRUPT: .*disk has/],
    ["qcow", "an L1 table past the end", (v) => v.setBigUint64(40, 2n ** 40n), /CORRUPT: .*no L1 table/],
    [
      "qcow",
      "a long name",
      (v) => {
        v.setBigUint64(8, 48n);
        v.setUint32(16, 2000);
      },
      /CORRUPT: .*name is 2000/,
    ],
    [
      "bochs",
      "undoable",
      (_, b) => b.set(new TextEncoder().encode("Undoable"), 48),
      /UNSUPPORTED: .*"Undoable".*differs/,
    ],
    ["bochs", "another type", (_, b) => b.fill(0x41, 32, 36), /UNSUPPORTED: .*type "AAAAlog"/],
    ["bochs", "version 3", (v) => v.setUint32(64, 0x30000, true), /UNSUPPORTED: .*version 0x30000/],
    ["bochs", "a catalog past the end", (v) => v.setUint32(72, 2 ** 31, true), /CORRUPT: .*catalog has/],
    ["bochs", "extents of nothing", (v) => v.setUint32(80, 0, true), /CORRUPT: .*extent has 0/],
    ["bochs", "a small bitmap", (v) => v.setUint32(76, 1, true), /CORRUPT: .*bitmap of 128/],
    ["bochs", "a large disk", (v) => v.setBigUint64(88, 2n ** 40n, true), /CORRUPT: .*disk has/],
    ["cloop", "odd blocks", (v) => v.setUint32(128, 1000), /CORRUPT: .*block has 1000/],
    ["cloop", "huge blocks", (v) => v.setUint32(128, 2 ** 27), /CORRUPT: .*block has 134217728/],
    ["cloop", "too many of them", (v) => v.setUint32(132, 2 ** 31), /CORRUPT: .*2147483648 blocks/],
  ])("%s: %s", async (format, _, change, message) => {
    expect(await opening(format, patched(IMAGES[format], change))).toMatch(message);
  });
});

test("entries that point nowhere, or where another does, fail what needs them and are found by check", async () => {
  const L1 = 4096;
  const L2 = Number(new DataView(IMAGES.qed.buffer).getBigUint64(L1, true));
  const cases: [keyof typeof IMAGES, (view: DataView) => void, structure: string, offset: number, leaks: number][] = [
    ["qed", (v) => v.setBigUint64(L2, 2n ** 50n, true), "L2 table", L2, 1],
    ["qed", (v) => v.setBigUint64(L2, v.getBigUint64(L2, true) + 512n, true), "L2 table", L2, 1],
    ["bochs", (v) => v.setUint32(512, 2 ** 31, true), "catalog", 512, 1],
    ["cloop", (v) => v.setBigUint64(136, 2n ** 50n), "block offsets", 136, 0],
    ["cloop", (v) => v.setBigUint64(144, v.getBigUint64(136)), "block offsets", 136, 0],
  ];
  for (const [format, change, structure, offset, leaks] of cases) {
    const bytes = patched(IMAGES[format], change);
    const disk = await openDisk(new KeptStore(bytes), { readOnly: true });
    await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "CORRUPT", context: { structure, offset } });
    expect(await readBytes(disk, 1 << 19, 4096)).toEqual(CONTENT.subarray(1 << 19, (1 << 19) + 4096));
    const report = check(format, bytes);
    expect([format, report.corruptions > 0, report.leaks]).toEqual([format, true, leaks]);
    expect(report.problems.find((problem) => problem.kind === "structure")).toMatchObject({ structure, offset });
  }
  // Reading both is no harm; that they are one is.
  const shared = patched(IMAGES.qed, (v) => v.setBigUint64(L2 + 8, v.getBigUint64(L2, true), true));
  expect(check("qed", shared)).toMatchObject({ corruptions: 1, leaks: 1 });
});

test("QED: what was not closed is read with a warning, and check says it", async () => {
  const bytes = qedImage(CONTENT, { needsCheck: true });
  const warnings: string[] = [];
  const disk = await openDisk(new KeptStore(bytes), { readOnly: true, onWarning: (text) => warnings.push(text) });
  expect(warnings).toEqual([expect.stringContaining("not closed properly")]);
  expect(await readBytes(disk, 0, 65536)).toEqual(CONTENT.subarray(0, 65536));
  expect(check("qed", bytes)).toMatchObject({ corruptions: 1, problems: [{ kind: "count", structure: "header" }] });
});

test("tables of a terabyte are looked up where they are, not read whole", async () => {
  // 64 KiB clusters, tables of 2 of them: an L1 table of 16,384 entries for 16,384 × 1 GiB.
  const clusterBytes = 65536;
  const bytes = qedImage(CONTENT, { clusterBytes });
  const size = 15 * 2 ** 40;
  const large = patched(bytes, (view) => view.setBigUint64(48, BigInt(size), true));
  const store = new KeptStore(large);
  let read = 0;
  const readv = store.readv.bind(store);
  store.readv = (position, memory, segments) => {
    read += segments.total;
    return readv(position, memory, segments);
  };
  const disk = await openDisk(store, { readOnly: true });
  expect(await readBytes(disk, size - 4096, 4096)).toEqual(new Uint8Array(4096));
  expect((await disk.places(2 ** 40, 2 ** 32))[0]).toMatchObject({ kind: "hole", length: 2 ** 32 });
  expect(read).toBeLessThan(65536);
});
