import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { SegmentList } from "../../src/core/segments.ts";
import type { Store } from "../../src/core/store.ts";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { BlobStore } from "../../src/host/store/blob.ts";
import { DraftStore } from "../../src/host/store/draft.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { fileHoles } from "../../src/host/store/file-holes.ts";
import { HttpStore } from "../../src/host/store/http.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { OpfsStore } from "../../src/host/store/opfs.ts";
import { FakeHandle } from "../support/fake-handle.ts";
import { RangeServer } from "../support/range-server.ts";
import { LateStore } from "../support/stores.ts";

const folder = fs.mkdtempSync(join(tmpdir(), "paravane-store-"));
afterAll(() => fs.rmSync(folder, { recursive: true }));
let files = 0;
const path = () => join(folder, `${files++}.bin`);

interface StoreCase {
  name: string;
  make(): Store;
  /** The same content, not to be written. */
  readOnly(content: Uint8Array): Store;
  /** Absent: some calls are one, some the other. */
  synchronous?: boolean;
}

function file(name: string, async: boolean, holes = true): StoreCase {
  return {
    name,
    synchronous: !async,
    make: () => new FileStore(path(), { create: true, async, holes }),
    readOnly(content) {
      const at = path();
      fs.writeFileSync(at, content);
      return new FileStore(at, { readOnly: true, async, holes });
    },
  };
}

/** Every Store there is. A new one joins the suite by being listed here. */
const STORES: StoreCase[] = [
  {
    name: "memory",
    synchronous: true,
    make: () => new MemoryStore(),
    readOnly: (content) => new MemoryStore(content, { readOnly: true }),
  },
  file("file", false),
  file("file, asynchronous", true),
  file("file, no holes", false, false),
  file("file, asynchronous, no holes", true, false),
  {
    name: "draft",
    synchronous: true,
    make: () => new DraftStore(new MemoryStore()),
    readOnly: (content) => new DraftStore(new MemoryStore(content, { readOnly: true })),
  },
  {
    name: "draft of a file, asynchronous",
    make: () => new DraftStore(new FileStore(path(), { create: true, async: true })),
    readOnly(content) {
      const at = path();
      fs.writeFileSync(at, content);
      return new DraftStore(new FileStore(at, { readOnly: true, async: true }));
    },
  },
  {
    name: "private file system, over a handle in memory",
    synchronous: true,
    make: () => new OpfsStore(new FakeHandle()),
    readOnly: (content) => new OpfsStore(new FakeHandle(content), { readOnly: true }),
  },
  {
    name: "late",
    synchronous: false,
    make: () => new LateStore(new MemoryStore()),
    readOnly: (content) => new LateStore(new MemoryStore(content, { readOnly: true })),
  },
];

async function read(store: Store, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length).fill(0xee);
  await store.readv(position, bytes, SegmentList.of(0, length));
  return bytes;
}
async function write(store: Store, position: number, bytes: Uint8Array): Promise<void> {
  await store.writev(position, bytes, SegmentList.of(0, bytes.length));
}
/** The code it throws or rejects with. */
async function code(work: () => unknown): Promise<string> {
  try {
    await work();
    return "none";
  } catch (error) {
    return (error as { code: string }).code;
  }
}

/** toEqual, for long arrays. */
function same(bytes: Uint8Array, expected: Uint8Array): void {
  expect(bytes.length).toBe(expected.length);
  if (Buffer.compare(bytes, expected) !== 0) expect(bytes).toEqual(expected);
}

/** Numbers whose every byte tells where it is. */
const pattern = (length: number, seed = 0) => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) + seed) & 0xff);

describe.each(STORES)("$name", ({ make, readOnly, synchronous }) => {
  test("holds what was written, grows, and reads zeros in between", async () => {
    const store = make();
    expect(store.size).toBe(0);
    await write(store, 1000, pattern(3000));
    expect(store.size).toBe(4000);
    same(await read(store, 0, 1000), new Uint8Array(1000));
    same(await read(store, 1000, 3000), pattern(3000));
    await write(store, 200_000, pattern(70_000, 9));
    same(await read(store, 200_000, 70_000), pattern(70_000, 9));
    same((await read(store, 3990, 20)).subarray(10), new Uint8Array(10));
    await store.flush();
    await store.close();
  });

  test("fills and takes segments in order, wherever they lie", async () => {
    const store = make();
    const memory = pattern(8192);
    const segments = new SegmentList();
    for (const [start, length] of [
      [4096, 1000],
      [0, 1],
      [6000, 2000],
      [100, 999],
      [50, 3],
    ])
      segments.push(start, length);
    await store.writev(77, memory, segments);
    const expected = new Uint8Array([
      ...memory.subarray(4096, 5096),
      ...memory.subarray(0, 1),
      ...memory.subarray(6000, 8000),
      ...memory.subarray(100, 1099),
      ...memory.subarray(50, 53),
    ]);
    same(await read(store, 77, expected.length), expected);
    const back = new Uint8Array(8192);
    await store.readv(77, back, segments);
    for (let i = 0; i < segments.count; i++) {
      const [from, to] = [segments.start(i), segments.start(i) + segments.length(i)];
      expect(back.subarray(from, to)).toEqual(memory.subarray(from, to));
    }
    await store.close();
  });

  test("takes more segments than one system call does", async () => {
    const store = make();
    const memory = pattern(3000 * 10);
    const segments = new SegmentList();
    for (let i = 2999; i >= 0; i--) segments.push(i * 10, 7);
    await store.writev(0, memory, segments);
    const back = new Uint8Array(memory.length);
    await store.readv(0, back, segments);
    for (let i = 0; i < 3000; i++)
      expect(back.subarray(i * 10, i * 10 + 7)).toEqual(memory.subarray(i * 10, i * 10 + 7));
    await store.close();
  });

  test("is exact past 4 GiB and 1 TiB", async () => {
    const store = make();
    for (const position of [2 ** 32 - 5, 2 ** 40 + 12345]) {
      await write(store, position, pattern(5000, 3));
      same(await read(store, position, 5000), pattern(5000, 3));
      expect(store.size).toBe(position + 5000);
    }
    await store.close();
  });

  test("discards to zeros and keeps its size", async () => {
    const store = make();
    await write(store, 0, pattern(300_000));
    await store.discard(1000, 200_000);
    expect(store.size).toBe(300_000);
    same(await read(store, 0, 1000), pattern(300_000).subarray(0, 1000));
    same(await read(store, 1000, 200_000), new Uint8Array(200_000));
    same(await read(store, 201_000, 99_000), pattern(300_000).subarray(201_000));
    await store.close();
  });

  test("calls nothing a hole that holds something", async () => {
    const store = make();
    if (!store.extent) return;
    await write(store, 0, pattern(70_000));
    await write(store, 2 ** 21 + 4097, pattern(5000));
    await store.resize(2 ** 22 + 3);
    await store.discard(8192, 40_000);
    const bytes = await read(store, 0, store.size);
    for (const start of [0, 1, 8191, 2 ** 21, store.size - 1]) {
      for (let at = start; at < store.size; ) {
        const { hole, length } = store.extent(at, store.size - at);
        expect(length).toBeGreaterThan(0);
        expect(at + length).toBeLessThanOrEqual(store.size);
        if (hole) expect(bytes.subarray(at, at + length).every((byte) => byte === 0)).toBe(true);
        at += length;
      }
    }
    expect(store.extent(100, 7).length).toBe(7);
    expect(await code(() => store.extent!(store.size - 1, 2))).toBe("OUT_OF_RANGE");
    await store.close();
  });

  test("resizes: what was cut off is zeros when it grows again", async () => {
    const store = make();
    await write(store, 0, pattern(150_000));
    await store.resize(70_001);
    expect(store.size).toBe(70_001);
    expect(await code(() => read(store, 70_000, 2))).toBe("OUT_OF_RANGE");
    await store.resize(200_000);
    same(await read(store, 70_001, 129_999), new Uint8Array(129_999));
    same(await read(store, 0, 70_001), pattern(150_000).subarray(0, 70_001));
    await store.close();
  });

  test("refuses what lies outside, what may not be written, and use after close", async () => {
    const store = make();
    await write(store, 0, pattern(100));
    expect(await code(() => read(store, 90, 11))).toBe("OUT_OF_RANGE");
    expect(await code(() => read(store, -1, 1))).toBe("OUT_OF_RANGE");
    expect(await code(() => write(store, -1, pattern(1)))).toBe("OUT_OF_RANGE");
    expect(await code(() => store.discard(50, 51))).toBe("OUT_OF_RANGE");
    await store.close();
    await store.close();
    expect(await code(() => read(store, 0, 1))).toBe("CLOSED");
    expect(await code(() => write(store, 0, pattern(1)))).toBe("CLOSED");
    expect(await code(() => store.flush())).toBe("CLOSED");

    const fixed = readOnly(pattern(100));
    expect(fixed.readOnly).toBe(true);
    same(await read(fixed, 0, 100), pattern(100));
    expect(await code(() => write(fixed, 0, pattern(1)))).toBe("READ_ONLY");
    expect(await code(() => fixed.discard(0, 1))).toBe("READ_ONLY");
    expect(await code(() => fixed.resize(10))).toBe("READ_ONLY");
    await fixed.flush();
    await fixed.close();
  });

  test.skipIf(synchronous === undefined)("answers at once or with promises, as it says", async () => {
    const store = make();
    const answers = [
      store.writev(0, pattern(10), SegmentList.of(0, 10)),
      store.readv(0, pattern(10), SegmentList.of(0, 0)),
      store.flush(),
    ];
    for (const answer of answers) expect(answer instanceof Promise).toBe(!synchronous);
    await Promise.all(answers);
    await store.close();
  });

  test("behaves as one array of bytes", async () => {
    const place = fc.oneof(fc.constant(0), fc.nat(300), fc.nat(200_000));
    const calls = fc.array(
      fc.oneof(
        fc.record({ call: fc.constant("write" as const), at: place, length: place }),
        fc.record({ call: fc.constant("discard" as const), at: place, length: place }),
        fc.record({ call: fc.constant("resize" as const), at: place, length: fc.constant(0) }),
      ),
      { maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(calls, async (list) => {
        const store = make();
        let model = new Uint8Array(0);
        let seed = 0;
        for (const { call, at, length } of list) {
          if (call === "write") {
            await write(store, at, pattern(length, ++seed));
            const grown = new Uint8Array(Math.max(model.length, at + length));
            grown.set(model);
            grown.set(pattern(length, seed), at);
            // An empty write does not move the end.
            if (length > 0 || at <= model.length) model = grown;
          } else if (call === "discard") {
            const from = Math.min(at, model.length);
            const count = Math.min(length, model.length - from);
            await store.discard(from, count);
            model.fill(0, from, from + count);
          } else {
            await store.resize(at);
            const sized = new Uint8Array(at);
            sized.set(model.subarray(0, at));
            model = sized;
          }
          expect(store.size).toBe(model.length);
        }
        expect(Buffer.compare(await read(store, 0, model.length), model)).toBe(0);
        await store.close();
      }),
      { numRuns: 25, seed: 4 },
    );
  });
});

/** Every store that only reads: those above as well, and those that never write. */
const READERS: {
  name: string;
  synchronous?: boolean | undefined;
  open(content: Uint8Array): Store | Promise<Store>;
}[] = [
  ...STORES.map(({ name, synchronous, readOnly }) => ({ name, synchronous, open: readOnly })),
  { name: "blob", synchronous: false, open: (content) => new BlobStore(new Blob([new Uint8Array(content)])) },
  {
    name: "blob, small units",
    synchronous: false,
    open: (content) => new BlobStore(new Blob([new Uint8Array(content)]), { unit: 4096, cacheBytes: 8192 }),
  },
  { name: "http", synchronous: false, open: async (content) => HttpStore.open(server.serve(content)) },
  {
    name: "http, small units",
    synchronous: false,
    open: async (content) =>
      HttpStore.open(server.serve(content), { unit: 4096, cacheBytes: 16384, readahead: 8192, inFlight: 2 }),
  },
];

let server: RangeServer;
beforeAll(async () => {
  server = await RangeServer.start();
});
afterAll(() => server.close());

describe.each(READERS)("$name, read-only", ({ open, synchronous }) => {
  test("reads any bytes, in any segments, together", async () => {
    const content = pattern(300_001, 5);
    const store = await open(content);
    expect(store.size).toBe(content.length);
    expect(store.readOnly).toBe(true);
    const place = fc.record({ at: fc.nat(content.length), length: fc.oneof(fc.nat(600), fc.nat(150_000)) });
    await fc.assert(
      fc.asyncProperty(fc.array(place, { minLength: 1, maxLength: 5 }), async (list) => {
        const reads = list.map(async ({ at, length: wanted }) => {
          const length = Math.min(wanted, content.length - at);
          const memory = new Uint8Array(length + 100);
          const segments = new SegmentList();
          const half = Math.floor(length / 2);
          segments.push(length - half + 100, half);
          segments.push(0, length - half);
          await store.readv(at, memory, segments);
          same(memory.subarray(length - half + 100), content.subarray(at, at + half));
          same(memory.subarray(0, length - half), content.subarray(at + half, at + length));
          same(memory.subarray(length - half, length - half + 100), new Uint8Array(100));
        });
        await Promise.all(reads);
      }),
      { numRuns: 40, seed: 11 },
    );
    await store.close();
  });

  test("refuses writes, what lies outside, and use after close; answers as it says", async () => {
    const store = await open(pattern(100));
    expect(await code(() => read(store, 90, 11))).toBe("OUT_OF_RANGE");
    expect(await code(() => read(store, -1, 1))).toBe("OUT_OF_RANGE");
    expect(await code(() => write(store, 0, pattern(1)))).toBe("READ_ONLY");
    expect(await code(() => store.discard(0, 1))).toBe("READ_ONLY");
    expect(await code(() => store.resize(10))).toBe("READ_ONLY");
    const answer = store.readv(0, pattern(10), SegmentList.of(0, 10));
    expect(answer instanceof Promise).toBe(!synchronous);
    await answer;
    await store.flush();
    await store.close();
    await store.close();
    expect(await code(() => read(store, 0, 1))).toBe("CLOSED");
    expect(await code(() => store.flush())).toBe("CLOSED");
  });

  test("holds nothing when there is nothing", async () => {
    const store = await open(new Uint8Array(0));
    expect(store.size).toBe(0);
    same(await read(store, 0, 0), new Uint8Array(0));
    expect(await code(() => read(store, 0, 1))).toBe("OUT_OF_RANGE");
    await store.close();
  });
});

/** A file system that can be filled needs one of our own. */
const canMount = (() => {
  const at = fs.mkdtempSync(join(tmpdir(), "paravane-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "paravane-test", at], { stdio: "ignore" });
    execFileSync("umount", [at]);
    return true;
  } catch {
    return false;
  } finally {
    fs.rmdirSync(at);
  }
})();

describe("files", () => {
  test("open by what is asked for, and say why not", async () => {
    const at = path();
    expect(await code(() => new FileStore(at))).toBe("NOT_FOUND");
    new FileStore(at, { create: true }).close();
    expect(await code(() => new FileStore(at, { create: true }))).toBe("EXISTS");
    fs.writeFileSync(at, "old");
    const store = new FileStore(at, { create: true, overwrite: true });
    expect(store.size).toBe(0);
    expect(store.name).toBe(at);
    store.close();
    expect(await code(() => new FileStore(folder, { readOnly: true }))).toBe("INVALID");
    expect(await code(() => new FileStore(folder))).toBe("INVALID");
  });

  test.skipIf(!canMount)("a full disk is NO_SPACE; the disk image on it keeps what it held", async () => {
    const at = join(folder, "small");
    fs.mkdirSync(at);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=6m", "paravane-test", at]);
    try {
      for (const async of [false, true]) {
        const name = join(at, "disk.vhd");
        const disk = await createDisk(new FileStore(name, { create: true, async }), { format: "vhd", size: 64 << 20 });
        let written = 0;
        let failure = "";
        for (; failure === "" && written < 64; written++) {
          failure = await code(() => writeBytes(disk, written << 20, pattern(1 << 20, written))).then((c) =>
            c.replace("none", ""),
          );
        }
        expect(failure).toBe("NO_SPACE");
        written--;
        expect(written).toBeGreaterThan(3);
        await disk.close();
        const again = await openDisk(new FileStore(name, { async }));
        for (let i = 0; i < written; i++) same(await readBytes(again, i << 20, 1 << 20), pattern(1 << 20, i));
        await again.close();
        fs.rmSync(name);
      }
    } finally {
      execFileSync("umount", [at]);
    }
  });

  test.skipIf(!canMount)("of writes that a full disk meets together, those fail that do not fit", async () => {
    const at = join(folder, "together");
    fs.mkdirSync(at);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=4m", "paravane-test", at]);
    try {
      const store = new FileStore(join(at, "file"), { create: true, async: true });
      const outcomes = await Promise.all(
        Array.from({ length: 16 }, (_, i) => code(() => write(store, i << 19, pattern(1 << 19, i)))),
      );
      expect(outcomes).toEqual(Array.from({ length: 16 }, (_, i) => (i < 8 ? "none" : "NO_SPACE")));
      for (let i = 0; i < 8; i++) same(await read(store, i << 19, 1 << 19), pattern(1 << 19, i));
      store.close();
    } finally {
      execFileSync("umount", [at]);
    }
  });

  test("writes under way together are each done, or each refused when the file is closed", async () => {
    const store = new FileStore(path(), { create: true, async: true });
    const order = Array.from({ length: 400 }, (_, i) => (i * 149) % 400);
    await Promise.all(order.map((i) => write(store, i * 700, pattern(700, i))));
    for (let i = 0; i < 400; i++) same(await read(store, i * 700, 700), pattern(700, i));
    const late = order.map((i) => code(() => write(store, i * 1400, pattern(700, i))));
    store.close();
    const outcomes = new Set(await Promise.all(late));
    expect([...outcomes].every((outcome) => ["none", "CLOSED"].includes(outcome))).toBe(true);
    expect(outcomes).toContain("CLOSED");
  });

  test("a file that shrinks under us is an error, not an endless loop", async () => {
    for (const async of [false, true]) {
      const at = path();
      fs.writeFileSync(at, pattern(10_000));
      const store = new FileStore(at, { async });
      fs.truncateSync(at, 5000);
      expect(await code(() => read(store, 4000, 2000))).toBe("OUT_OF_RANGE");
      store.close();
    }
  });
});

/** Is the optional package there that reaches the host's calls for holes? A miss in CI is a failure. */
const native = fileHoles() !== null;
test.skipIf(!native && !process.env.CI)(
  "a file's holes are found and punched (needs the package koffi, Linux)",
  async () => {
    expect(native).toBe(true);
    for (const async of [false, true]) {
      const at = path();
      const store = new FileStore(at, { create: true, async });
      expect(store.releases).toBe(true);
      await store.resize(64 << 20);
      expect(store.extent(0, 64 << 20)).toEqual({ hole: true, length: 64 << 20 });
      await write(store, 32 << 20, pattern(1 << 20, 1));
      expect(store.extent(0, 64 << 20)).toEqual({ hole: true, length: 32 << 20 });
      expect(store.extent((32 << 20) + 5, 64)).toEqual({ hole: false, length: 64 });
      await store.flush();
      const before = fs.statSync(at).blocks;
      await store.discard(32 << 20, 1 << 20);
      await store.flush();
      expect(fs.statSync(at).blocks).toBeLessThan(before - 1024);
      store.close();
      // Through a disk: a hole of the file is a run of zeros that is not read.
      const disk = await openDisk(new FileStore(at, { async }), { format: "raw" });
      expect(await disk.places(0, disk.size)).toEqual([
        { kind: "zero", length: 64 << 20, depth: 0, position: 0, store: at },
      ]);
      await disk.close();
    }
  },
);

test("memory takes space only for what was written", async () => {
  const store = new MemoryStore(2 ** 40);
  expect(store.allocated).toBe(0);
  await write(store, 2 ** 39, pattern(10));
  expect(store.allocated).toBeLessThanOrEqual(2 ** 17);
  await store.discard(2 ** 39 - 2 ** 20, 2 ** 21);
  expect(store.allocated).toBe(0);
  const given = new Uint8Array(2 ** 20);
  given[300_000] = 5;
  expect(new MemoryStore(given).allocated).toBe(65536);
});
