import { expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { denyAll, type OpenGate, type OpenRequest } from "../../../src/host/block/gate.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { qcow2 } from "../../../src/host/format/qcow2/index.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";
import { KeptStore } from "../../support/disks.ts";

const MiB = 2 ** 20;
const CLUSTER = 65536;

/** Files in memory, and a gate that opens each by its name and remembers what was asked. */
class Shelf implements OpenGate {
  readonly files = new Map<string, Named>();
  readonly asked: OpenRequest[] = [];
  format: string | undefined;

  open(request: OpenRequest) {
    this.asked.push(request);
    const store = request.names.map((name) => this.files.get(name)).find((file) => file !== undefined);
    if (!store) throw Object.assign(new Error("not on the shelf"));
    store.closed = false;
    return { store, ...(this.format !== undefined && { format: this.format }) };
  }
  add(name: string): Named {
    const store = new Named(name);
    this.files.set(name, store);
    return store;
  }
  async image(name: string, options: Record<string, unknown>, fill?: [offset: number, value: number]) {
    const store = this.add(name);
    const backing = options.backingFile === undefined ? undefined : new MemoryStore(MiB);
    const disk = await createDisk(store, {
      format: "qcow2",
      size: MiB,
      ...options,
      ...(backing && { backing: await openDisk(backing, { format: "raw" }) }),
    });
    if (fill) await writeBytes(disk, fill[0], new Uint8Array(CLUSTER).fill(fill[1]));
    await disk.close();
  }
}

class Named extends KeptStore {
  closed = false;
  readonly identity: string;
  constructor(name: string) {
    super(0, { name });
    this.identity = name;
  }
  override close(): void {
    this.closed = true;
  }
}

test.each([
  ["vhd", "vpc"],
  ["vhdx", "vhdx"],
  ["raw", "raw"],
])("a chain of qcow2, qcow2 and %s, each read through the one above", async (format, inQemu) => {
  const shelf = new Shelf();
  await shelf.image("root", { format }, [0, 1]);
  await shelf.image("middle", { backingFile: "root", backingFormat: inQemu }, [CLUSTER, 2]);
  await shelf.image("top", { backingFile: "middle", backingFormat: "qcow2" }, [CLUSTER * 3, 3]);
  const disk = await openDisk(shelf.files.get("top")!, { gate: shelf });
  const bytes = await readBytes(disk, 0, MiB);
  const seen = [0, CLUSTER, CLUSTER * 2, CLUSTER * 3, MiB - 1].map((at) => bytes[at]);
  expect(seen).toEqual([1, 2, 0, 3, 0]);
  expect(shelf.asked.map(({ image, names, readOnly }) => [image, names[0], readOnly])).toEqual([
    ["top", "middle", true],
    ["middle", "root", true],
  ]);
  expect((disk.backing as typeof disk).format).toBe("qcow2");
  expect(((disk.backing as typeof disk).backing as typeof disk).format).toBe(format);
  expect(disk.parent?.paths).toEqual(["middle"]);
  await disk.close();
  expect([...shelf.files.values()].map(({ closed }) => closed)).toEqual([true, true, true]);
});

test("nothing is opened unless a gate opens it, and the refusal names the file and the way out", async () => {
  const shelf = new Shelf();
  await shelf.image("top.qcow2", { backingFile: "base.qcow2", backingFormat: "qcow2" });
  const top = shelf.files.get("top.qcow2")!;
  for (const options of [{}, { gate: denyAll }]) {
    await expect(openDisk(top, options)).rejects.toMatchObject({
      code: "NOT_FOUND",
      message: expect.stringContaining("base.qcow2"),
      hint: expect.stringContaining("gate"),
      context: { file: "top.qcow2" },
    });
  }
});

test("a parent without a header is not taken for raw, unless the image or the gate says so", async () => {
  const shelf = new Shelf();
  shelf.add("base").resize(MiB);
  await shelf.image("top.qcow2", { backingFile: "base" });
  const top = shelf.files.get("top.qcow2")!;
  await expect(openDisk(top, { gate: shelf })).rejects.toMatchObject({
    code: "DENIED",
    message: expect.stringMatching(/base.*does not say that it is raw.*/),
  });
  expect(shelf.files.get("base")!.closed).toBe(true);
  shelf.format = "raw";
  await (await openDisk(top, { gate: shelf })).close();
});

test("loops are found by identity, and long chains are taken for loops", async () => {
  const shelf = new Shelf();
  await shelf.image("a", { backingFile: "b", backingFormat: "qcow2" });
  await shelf.image("b", { backingFile: "c", backingFormat: "qcow2" });
  await shelf.image("c", { backingFile: "a", backingFormat: "qcow2" });
  await expect(openDisk(shelf.files.get("a")!, { gate: shelf })).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringContaining("a → b → c → a"),
  });
  expect([...shelf.files.values()].every(({ closed, name }) => closed || name === "a")).toBe(true);

  const endless: OpenGate = {
    async open({ names }) {
      const store = new MemoryStore(0, { name: names[0] });
      const made = new Shelf();
      await made.image("x", { backingFile: "again", backingFormat: "qcow2" });
      const bytes = new Uint8Array(made.files.get("x")!.size);

      made.files.get("x")!.readv(0, bytes, SegmentList.of(0, bytes.length));
      store.writev(0, bytes, SegmentList.of(0, bytes.length));
      return { store };
    },
  };
  await expect(openDisk(shelf.files.get("a")!, { gate: endless })).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringContaining("longer than 200"),
  });
});

test("a chain of 150 is read to its end", async () => {
  const shelf = new Shelf();
  await shelf.image("0", {}, [0, 7]);
  for (let i = 1; i < 150; i++) await shelf.image(`${i}`, { backingFile: `${i - 1}`, backingFormat: "qcow2" });
  const disk = await openDisk(shelf.files.get("149")!, { gate: shelf });
  expect((await readBytes(disk, 0, 4096))[4095]).toBe(7);
  const [place] = await disk.places(0, MiB);
  expect(place).toMatchObject({ kind: "data", depth: 149 });
  await disk.close();
});

test("what is wrong in a parent is said of the parent, with the image it is a parent of", async () => {
  const shelf = new Shelf();
  await shelf.image("top.qcow2", { backingFile: "base.vhd", backingFormat: "vpc" });
  shelf.add("base.vhd").resize(4096);
  await expect(openDisk(shelf.files.get("top.qcow2")!, { gate: shelf })).rejects.toMatchObject({
    code: "CORRUPT",
    message: expect.stringMatching(/footer.*in base\.vhd, a parent of top\.qcow2/),
    context: { file: "base.vhd", chain: ["top.qcow2", "base.vhd"] },
  });
  expect(shelf.files.get("base.vhd")!.closed).toBe(true);
});

test("a data file goes through the gate too, and is not the image itself", async () => {
  const shelf = new Shelf();
  const store = shelf.add("top.qcow2");
  const data = shelf.add("top.data");
  const openFile = () => data;
  await run(qcow2.create!(store, { size: MiB, dataFile: "top.data" }));
  await (await openDisk(store, { openFile })).close();
  const disk = await openDisk(store, { gate: shelf });
  await writeBytes(disk, 0, new Uint8Array(512).fill(9));
  await disk.close();
  expect(shelf.asked).toEqual([
    { kind: "data", image: "top.qcow2", names: ["top.data"], windows: false, readOnly: false },
  ]);
  expect(data.size).toBeGreaterThan(0);
  shelf.files.set("top.data", store);
  await expect(openDisk(store, { gate: shelf })).rejects.toMatchObject({ code: "CORRUPT" });
});

test("alone: the image can be looked at, and what it does not hold cannot be read", async () => {
  const shelf = new Shelf();
  await shelf.image("top.qcow2", { backingFile: "base.qcow2", backingFormat: "qcow2" }, [0, 5]);
  const disk = await openDisk(shelf.files.get("top.qcow2")!, { alone: true });
  expect(disk.describe()).toMatchObject({ backingFile: "base.qcow2" });
  expect((await readBytes(disk, 0, 512))[0]).toBe(5);
  await expect(readBytes(disk, 65536, 512)).rejects.toMatchObject({ code: "NOT_FOUND" });
});
