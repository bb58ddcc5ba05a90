import { describe, expect, test } from "vitest";
import { ParavaneError } from "../../../src/core/error.ts";
import { run } from "../../../src/core/flow.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { readBytes, writeBytes, writeZeroes } from "../../../src/host/block/bytes.ts";
import { createDisk, type Disk, openDisk } from "../../../src/host/block/open.ts";
import { parallelsBundle } from "../../../src/host/format/parallels-bundle/index.ts";
import { parseXml } from "../../../src/host/format/xml.ts";
import { bundleFormat, createBundle, openBundle } from "../../support/bundle.ts";
import { KeptStore } from "../../support/disks.ts";
import { random } from "../../support/fuzz-disk.ts";
import { BLOCK, cutEverywhere, SIZE as LIFE, PARENT } from "../../support/life.ts";
import { bundle, hdsImage, mixed } from "../../support/read-only.ts";
import { contentOf, LateStore, randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const SIZE = 1 << 20;
const NOW = mixed(SIZE);
const THEN = mixed(SIZE, 9);
const MADE = bundle(NOW, THEN);
const TOP = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
const FIRST = "{11111111-2222-3333-4444-555555555555}";
const NONE = "{00000000-0000-0000-0000-000000000000}";

class Opened extends KeptStore {
  closed = false;
  override close(): void {
    this.closed = true;
    super.close();
  }
}

function open(descriptor: string, files = MADE.files, late = false): { opening: Promise<Disk>; stores: Opened[] } {
  const stores: Opened[] = [];
  const openFile = (name: string) => {
    if (!files[name]) throw new ParavaneError("NOT_FOUND", `there is no ${name}`);
    stores.push(new Opened(files[name], { name }));
    return late ? new LateStore(stores.at(-1)!) : stores.at(-1)!;
  };
  const store = new KeptStore(new TextEncoder().encode(descriptor));
  return { opening: openDisk(store, { readOnly: true, openFile }), stores };
}
const same = (bytes: Uint8Array, wanted: Uint8Array) => expect(Buffer.compare(bytes, wanted)).toBe(0);
const outcome = (descriptor: string) =>
  open(descriptor).opening.then(
    () => "opened",
    ({ code, message }) => `${code}: ${message}`,
  );

test("parts and snapshots make one disk, which closes all its files", async () => {
  for (const [late, clusterBytes] of [
    [false, 4096],
    [true, 65536],
  ] as const) {
    const made = bundle(NOW, THEN, { clusterBytes, cut: 720_896 });
    const { opening, stores } = open(made.descriptor, made.files, late);
    const disk = await opening;
    same(await readBytes(disk, 0, SIZE), NOW);
    // Over the border of the parts.
    expect(await readBytes(disk, 720_896 - 1024, 2048)).toEqual(NOW.subarray(720_896 - 1024, 720_896 + 1024));
    expect(disk.describe()).toMatchObject({
      states: [TOP, FIRST],
      files: ["0.1.hds", "0.0.hds", "1.1.hds", "1.0.hds"],
    });
    // Each place is in one of the files.
    for (let at = 0; at < SIZE; ) {
      for (const { length, position, store } of await disk.places(at, SIZE - at)) {
        if (position !== undefined) {
          same(made.files[store!].subarray(position, position + length), NOW.subarray(at, at + length));
        }
        at += length;
      }
    }
    await disk.close();
    expect(stores.map(({ closed }) => closed)).toEqual([true, true, true, true]);
  }
});

test("the state before the snapshot is read when it is made the newest", async () => {
  const descriptor = MADE.descriptor.replace(`<TopGUID>${TOP}`, `<TopGUID>${FIRST}`);
  same(await readBytes(await open(descriptor).opening, 0, SIZE), THEN);
});

/** Opens a bundle for writing; its files outlive it. */
function writing({ descriptor, files }: ReturnType<typeof bundle>, late = false) {
  const stores = new Map(Object.entries(files).map(([name, bytes]) => [name, new KeptStore(bytes.slice(), { name })]));
  const asked: Record<string, boolean> = {};
  const openFile = (name: string, readOnly = true) => {
    asked[name] = readOnly;
    return late ? new LateStore(stores.get(name)!) : stores.get(name)!;
  };
  const text = () => new KeptStore(new TextEncoder().encode(descriptor));
  return {
    stores,
    asked,
    open: () => openDisk(text(), { openFile }),
    check: () => run(parallelsBundle.check!(text(), { openFile })),
    repair: (what: "leaks" | "all") => run(parallelsBundle.repair!(text(), what, { openFile })),
  };
}

const plain = (text: string) =>
  text
    .replace(/<Snapshots>[\s\S]*<\/Snapshots>/, "")
    .replaceAll(/<Image><GUID>\{1{8}[\s\S]*?<\/Image>/g, "")
    .replaceAll("Compressed", "Plain");

describe("written", () => {
  test.each([false, true])(
    "what is written goes to the newest files; over stores that answer late: %s",
    async (late) => {
      for (const clusterBytes of [4096, 65536]) {
        const made = bundle(NOW, THEN, { clusterBytes, cut: 720_896 });
        const { stores, asked, open: again, check } = writing(made, late);
        const content = NOW.slice();
        const random = randomFrom(clusterBytes);
        for (let round = 0; round < 3; round++) {
          const disk = await again();
          for (let i = 0; i < 40; i++) {
            const at = Math.floor((random() * SIZE) / 512) * 512;
            const length = Math.min(SIZE - at, 512 * (1 + Math.floor(random() ** 3 * 300)));
            const bytes = new Uint8Array(length).fill(1 + random() * 255);
            if (i % 5 === 4) await writeZeroes(disk, at, length);
            else await writeBytes(disk, at, bytes);
            content.set(i % 5 === 4 ? new Uint8Array(length) : bytes, at);
          }
          same(await readBytes(disk, 0, SIZE), content);
          await disk.close();
        }
        same(await readBytes(await again(), 0, SIZE), content);
        expect(asked).toEqual({ "0.0.hds": true, "0.1.hds": false, "1.0.hds": true, "1.1.hds": false });
        for (const name of ["0.0.hds", "1.0.hds"]) same(contentOf(stores.get(name)!), made.files[name]);
        expect(await check()).toMatchObject({ leaks: 0, corruptions: 0, problems: [] });
      }
    },
  );

  test("plain files, of which one ends early", async () => {
    const { descriptor } = bundle(NOW, NOW);
    const files = { "0.1.hds": NOW.slice(0, SIZE / 2), "1.1.hds": NOW.slice(SIZE / 2, SIZE - 65536) };
    const { open: again, check, stores } = writing({ descriptor: plain(descriptor), files });
    expect(await check()).toMatchObject({
      corruptions: 1,
      problems: [{ structure: "plain image of 1.1.hds", message: "has 458752 bytes, its part of the disk 524288" }],
    });
    const disk = await again();
    expect((await readBytes(disk, SIZE - 512, 512)).every((byte) => byte === 0)).toBe(true);
    await writeBytes(disk, SIZE - 1024, new Uint8Array(512).fill(7));
    await disk.close();
    expect(stores.get("1.1.hds")!.size).toBe(SIZE / 2);
    const content = NOW.slice()
      .fill(0, SIZE - 65536)
      .fill(7, SIZE - 1024, SIZE - 512);
    same(await readBytes(await again(), 0, SIZE), content);
    expect(await check()).toMatchObject({ corruptions: 0 });
  });

  test("what cannot be written is refused before anything is", async () => {
    const old = writing(bundle(NOW, THEN, { clusterBytes: 63 * 512 }));
    await expect(writeBytes(await old.open(), 0, NOW.subarray(0, 512))).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("are only read"),
    });
    const made = bundle(NOW, THEN);
    const short = hdsImage(NOW.subarray(SIZE / 2, SIZE - 65536), THEN.subarray(SIZE / 2), 4096);
    const shrunk = writing({ ...made, files: { ...made.files, "1.1.hds": short } });
    const disk = await shrunk.open();
    await expect(writeBytes(disk, 0, NOW.subarray(0, 512))).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("can only be read"),
    });
    await disk.close();
    same(contentOf(shrunk.stores.get("0.1.hds")!), made.files["0.1.hds"]);
    await expect(createDisk(new KeptStore(), { format: "parallels-bundle", size: SIZE })).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: "parallels-bundle images are not made here",
    });
    await expect((await writing(made).open()).resize(SIZE * 2)).rejects.toMatchObject({ code: "UNSUPPORTED" });
  });

  test("one file in two places is refused", async () => {
    const twice = MADE.descriptor.replace("1.1.hds", "0.1.hds");
    await expect(writing({ ...MADE, descriptor: twice }).open()).rejects.toMatchObject({
      code: "CORRUPT",
      message: expect.stringContaining("names 0.1.hds, which is in another place already"),
    });
  });

  test("power may be lost at any step", { timeout: tier(300_000, 7_200_000) }, async () => {
    const first = new KeptStore(new Uint8Array(LIFE).fill(PARENT));
    const programs = tier(2, 60);
    const life = { format: bundleFormat(LIFE, first), hasParent: true, keeps: true, fixed: true };
    const cuts = await cutEverywhere(
      {
        ...life,
        create: (store) => createBundle(store, LIFE, first, BLOCK),
        open: (store) => openBundle(store, LIFE, first),
      },
      programs,
    );
    expect(cuts).toBeGreaterThan(programs * 20);
  });
});

test("one file of a bundle is opened by itself only where it is all of a state", async () => {
  const guid = "disk.0.{5fbaabe3-6958-40ff-92a7-860e329aab41}.hds";
  const opening = (name: string, { readOnly = true, descriptor = MADE.descriptor as string | undefined } = {}) => {
    const warnings: string[] = [];
    const options = {
      readOnly,
      onWarning: (message: string) => void warnings.push(message),
      openFile: (wanted: string) => {
        if (descriptor !== undefined && wanted === "DiskDescriptor.xml") {
          return new KeptStore(new TextEncoder().encode(descriptor));
        }
        throw new ParavaneError("NOT_FOUND", `there is no ${wanted}`);
      },
    };
    const bytes = MADE.files[name] ?? MADE.files["0.0.hds"];
    const disk = openDisk(new KeptStore(bytes.slice(), { name: `/vm/disk.hdd/${name}` }), options);
    return disk.then(() => warnings.join() || "opened");
  };
  await expect(opening("0.1.hds")).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: `it holds only what was written since the snapshot ${FIRST}`,
    hint: expect.stringContaining("DiskDescriptor.xml"),
  });
  expect(await opening("0.0.hds")).toBe("opened");
  await expect(opening("0.0.hds", { readOnly: false })).rejects.toMatchObject({
    code: "READ_ONLY",
    message: "0.1.hds is based on it: it can only be read",
  });
  const alone = MADE.descriptor
    .replace(/<Snapshots>[\s\S]*<\/Snapshots>/, "")
    .replaceAll(/<Image><GUID>\{1{8}[\s\S]*?<\/Image>/g, "")
    .replace("0.1.hds", "sub/0.0.hds");
  expect(await opening("0.0.hds", { readOnly: false, descriptor: alone })).toBe("opened");
  for (const descriptor of [undefined, "<x/>", MADE.descriptor]) {
    expect(await opening(guid, { descriptor })).toContain("reads as zeros");
  }
  expect(await opening("other.hds")).toBe("opened");
});

test("leaks and corruptions of all files are counted, and mended, where one file is", async () => {
  const { stores, check, repair, open: again } = writing(MADE);
  expect(check()).toMatchObject({ leaks: 0, corruptions: 0 });
  // Two clusters that nothing has, and a file that was not closed.
  stores.get("0.0.hds")!.resize(stores.get("0.0.hds")!.size + 8192);
  stores.get("1.1.hds")!.writev(44, new Uint8Array([0x59, 0x6e, 0x6f, 0x74]), SegmentList.of(0, 4));
  expect(check()).toMatchObject({
    leaks: 2,
    corruptions: 1,
    problems: expect.arrayContaining([
      expect.objectContaining({ kind: "leak", structure: expect.stringContaining(" of 0.0.hds") }),
      expect.objectContaining({ kind: "count", structure: "header of 1.1.hds", offset: 44 }),
    ]),
  });
  expect(repair("leaks")).toMatchObject({ leaks: 0, corruptions: 1 });
  expect(repair("all")).toMatchObject({ leaks: 0, corruptions: 0 });
  same(await readBytes(await again(), 0, SIZE), NOW);
  // Where the snapshot has something, too.
  const cluster = new DataView(MADE.files["1.1.hds"].slice().buffer).getUint32(28, true) * 512;
  const index = Math.floor(THEN.subarray(SIZE / 2).findIndex((byte) => byte !== 0) / cluster);
  const lost = Uint8Array.of(0xff, 0xff, 0xff, 0x7f);
  const newest = stores.get("1.1.hds")!;
  newest.writev(newest.size, new Uint8Array(cluster).fill(0x99), SegmentList.of(0, cluster));
  newest.writev(64 + index * 4, lost, SegmentList.of(0, 4));
  const table = expect.objectContaining({ kind: "structure", structure: "block allocation table of 1.1.hds" });
  expect(check()).toMatchObject({ corruptions: 1, problems: expect.arrayContaining([table]) });
  expect(() => repair("leaks")).toThrow(/damaged beyond this repair/);
  expect(repair("all")).toMatchObject({ leaks: 0, corruptions: 0 });
  expect(check()).toMatchObject({ leaks: 0, corruptions: 0, problems: [] });
  const begin = SIZE / 2 + index * cluster;
  const content = NOW.slice().fill(0, begin, begin + cluster);
  same(await readBytes(await again(), 0, SIZE), content);
  // In the oldest file it is a hole.
  const oldest = stores.get("0.0.hds")!;
  oldest.writev(64, lost, SegmentList.of(0, 4));
  expect(repair("all")).toMatchObject({ leaks: 0, corruptions: 0 });
  expect(contentOf(oldest).slice(64, 68)).toEqual(new Uint8Array(4));
});

test("without snapshots the usual GUID is meant", async () => {
  const made = bundle(NOW, new Uint8Array(SIZE));
  const lone = made.descriptor
    .replace(/<Snapshots>[\s\S]*<\/Snapshots>/, "")
    .replaceAll(/<Image><GUID>\{1{8}[\s\S]*?<\/Image>/g, "");
  same(await readBytes(await open(lone, made.files).opening, 0, SIZE), NOW);
});

describe("what is refused", () => {
  const { descriptor } = MADE;
  test.each<[string, string, RegExp]>([
    ["another version", descriptor.replace('"1.0"', '"2.0"'), /UNSUPPORTED: version 2.0/],
    ["encryption", descriptor.replace(`<Engine>${NONE}`, `<Engine>${TOP}`), /UNSUPPORTED: .*encrypted/],
    [
      "a gap between parts",
      descriptor.replace("<Start>1024", "<Start>1025"),
      /CORRUPT: the Storage is of bytes 524800/,
    ],
    ["a part of nothing", descriptor.replace("<End>1024", "<End>0"), /CORRUPT: the Storage is of bytes 0 to 0/],
    ["another size", descriptor.replace("<Disk_size>2048", "<Disk_size>4096"), /CORRUPT: the Disk_size says/],
    ["a size that is none", descriptor.replace("<Disk_size>2048", "<Disk_size>-1"), /CORRUPT: the Disk_size says "-1"/],
    [
      "two sizes",
      descriptor.replace("<Cylinders>4</Cylinders>", "<Disk_size>1</Disk_size>"),
      /more than one <Disk_size>/,
    ],
    ["no storages", descriptor.replaceAll("StorageData", "Storages"), /has no <StorageData>/],
    ["a type", descriptor.replace("Compressed", "Sparse"), /UNSUPPORTED: images of type "Sparse"/],
    ["a snapshot without an image", descriptor.replace(`<GUID>${TOP}`, `<GUID>${NONE}`), /has 0 images for snapshot/],
    ["a loop", descriptor.replace(`<ParentGUID>${NONE}`, `<ParentGUID>${TOP}`), /CORRUPT: .*or a loop/],
    [
      "a parent that is not there",
      descriptor.replace(`<ParentGUID>${NONE}`, `<ParentGUID>{${"2".repeat(8)}${NONE.slice(9)}`),
      /has no <Shot>/,
    ],
    ["no newest state", descriptor.replace(`<TopGUID>${TOP}`, `<TopGUID>${NONE}`), /no newest state/],
    ["a GUID that is none", descriptor.replace(`<TopGUID>${TOP}`, "<TopGUID>x"), /no GUID/],
    [
      "a plain file that has a parent",
      descriptor.replace(/(0\.1\.hds[\s\S]*?)Compressed(<\/Type><File>1)/, "$1Plain$2"),
      /is plain, but has/,
    ],
    ["a file that is not there", descriptor.replace("0.1.hds", "../etc"), /NOT_FOUND/],
    ["a file that is no expanding disk", descriptor.replace("0.1.hds", "1.0.hds"), /CORRUPT: the header has no magic/],
    ["what is not XML", descriptor.replace("</StorageData>", ""), /CORRUPT: .*not well-formed/],
    ["more text than there is of such", descriptor + " ".repeat(2 ** 20), /CORRUPT: .*more than 1048576/],
  ])("%s", async (_, changed, message) => {
    expect(changed).not.toBe(descriptor);
    expect(await outcome(changed)).toMatch(message);
  });

  test("what was opened is closed when the rest cannot be", async () => {
    const { opening, stores } = open(MADE.descriptor.replace("1.0.hds", "gone"));
    await expect(opening).rejects.toMatchObject({ code: "NOT_FOUND" });
    expect(stores.map(({ closed }) => closed)).toEqual([true, true, true]);
  });
});

test("descriptors changed at random open or are refused in our words", async () => {
  const runs = 400;
  const outcomes: Record<string, number> = {};
  for (let run = 0; run < runs; run++) {
    const pick = random(1_000_003 + run);
    let text = MADE.descriptor;
    for (let changes = 1 + pick(3); changes > 0; changes--) {
      const at = pick(text.length);
      const put = ["", "<", ">", "&", "9", "-", "\0", "<!--", text.slice(pick(text.length)).slice(0, pick(200))][
        pick(9)
      ];
      text = text.slice(0, at) + put + text.slice(at + pick(4));
    }
    const bytes = new TextEncoder().encode(text);
    const opening = openDisk(new KeptStore(bytes), {
      ...{ format: "parallels-bundle", readOnly: true },
      openFile: (name) => new KeptStore(MADE.files[name] ?? new Uint8Array(0)),
    });
    const found = await opening.then(
      () => "opened",
      (error) => (error instanceof ParavaneError ? error.code : String(error)),
    );
    outcomes[found] = (outcomes[found] ?? 0) + 1;
  }
  expect(Object.keys(outcomes).sort()).toEqual(["CORRUPT", "UNSUPPORTED", "opened"]);
});

test("XML is read strictly", () => {
  expect(parseXml(`<?xml version="1.0"?><!-- a --><a b='1' c="&lt;"><d/>\n<e>&#65;&#x42;</e ></a>\n<!-- -->`)).toEqual({
    name: "a",
    attributes: new Map([
      ["b", "1"],
      ["c", "<"],
    ]),
    children: [
      { name: "d", attributes: new Map(), children: [], text: "" },
      { name: "e", attributes: new Map(), children: [], text: "AB" },
    ],
    text: "\n",
  });
  for (const [text, message] of [
    ["", /should begin/],
    ["<a>", /too early/],
    ["<a></b>", /ends as something else/],
    ["<a/><a/>", /more after/],
    ["<a b=1/>", /should stand/],
    ["<a b='1' b='2'/>", /twice/],
    ["<a b='<'/>", /a tag/],
    ["<a>x<b/></a>", /both text and elements/],
    ["<a>&b;</a>", /entity/],
    ["<a><![CDATA[x]]></a>", /name should/],
    ["<a><?b?></a>", /name should/],
    ['<!DOCTYPE a [<!ENTITY b "c">]><a/>', /type definition/],
    ["<a>".repeat(40), /too deeply/],
    ["<a b='1'c='2'/>", /should stand|name/],
  ] as const)
    expect(() => parseXml(text), text).toThrow(message);
});
