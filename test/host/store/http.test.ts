import type { ServerResponse } from "node:http";
import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SegmentList } from "../../../src/core/segments.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { HttpStore } from "../../../src/host/store/http.ts";
import { KeptStore } from "../../support/disks.ts";
import { type Fault, RangeServer } from "../../support/range-server.ts";
import { contentOf, randomFrom } from "../../support/stores.ts";

const KiB = 1024;
const random = randomFrom(7);
const CONTENT = Uint8Array.from({ length: 1000 * KiB + 77 }, () => random() * 256);
/** Errors come soon here. */
const QUICK = { retryDelay: 1, unit: 16 * KiB, readahead: 0 };

let server: RangeServer;
let url: string;
beforeEach(async () => {
  server = await RangeServer.start();
  url = server.serve(CONTENT);
});
afterEach(() => server.close());

async function read(store: HttpStore, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length).fill(0xee);
  await store.readv(position, bytes, SegmentList.of(0, length));
  return bytes;
}
const equal = (bytes: Uint8Array, position: number) =>
  Buffer.compare(bytes, CONTENT.subarray(position, position + bytes.length)) === 0;
const answering =
  (answer: (response: ServerResponse) => unknown): Fault =>
  (_, response) => {
    answer(response);
    return true;
  };
const ranges = () => server.asked.map(({ range }) => range?.replace("bytes=", ""));

describe("what is asked for", () => {
  test("the first request tells the size and brings the first bytes; each unit is asked for once", async () => {
    const store = await HttpStore.open(url, QUICK);
    expect(store.size).toBe(CONTENT.length);
    expect(equal(await read(store, 0, 16 * KiB), 0)).toBe(true);
    expect(ranges()).toEqual(["0-16383"]);
    expect(equal(await read(store, 20_000, 10), 20_000)).toBe(true);
    expect(equal(await read(store, 16_384, 16_384), 16_384)).toBe(true);
    expect(ranges().slice(1)).toEqual(["16384-32767"]);
    // Units that lie together are one request; the last one is shorter.
    expect(equal(await read(store, 40_000, 100_000), 40_000)).toBe(true);
    expect(ranges().slice(2)).toEqual(["32768-147455"]);
    expect(equal(await read(store, CONTENT.length - 5, 5), CONTENT.length - 5)).toBe(true);
    expect(ranges().slice(3)).toEqual([`1015808-${CONTENT.length - 1}`]);
    expect(server.asked[1].headers["if-match"]).toBe('"0"');
    await store.close();
  });

  test("reads of the same unit share a request; no more than so many are under way", async () => {
    server.delay = 5;
    const store = await HttpStore.open(url, { ...QUICK, inFlight: 3 });
    const same = Array.from({ length: 20 }, (_, i) => read(store, 100_000 + i, 50));
    const far = Array.from({ length: 12 }, (_, i) => read(store, 200_000 + i * 50_000, 50));
    const all = await Promise.all([...same, ...far]);
    expect(all.every((bytes, i) => equal(bytes, i < 20 ? 100_000 + i : 200_000 + (i - 20) * 50_000))).toBe(true);
    expect(ranges().filter((range) => range === "98304-114687")).toHaveLength(1);
    expect(server.mostInFlight).toBe(3);
    await store.close();
  });

  test("one who reads in order finds more and more fetched ahead; one who jumps does not", async () => {
    const store = await HttpStore.open(url, { ...QUICK, readahead: 256 * KiB });
    for (let at = 0; at + 4096 <= CONTENT.length; at += 4096) {
      expect(equal(await read(store, at, 4096), at)).toBe(true);
    }
    const inOrder = server.asked.length;
    expect(inOrder).toBeLessThan(20);
    await store.close();
    const other = await HttpStore.open(url, { ...QUICK, readahead: 256 * KiB });
    const before = server.asked.length;
    for (const unit of [50, 20, 40, 10, 30]) await read(other, unit * 16 * KiB, 512);
    expect(ranges().slice(before)).toEqual(
      [50, 20, 40, 10, 30].map((unit) => `${unit * 16 * KiB}-${(unit + 1) * 16 * KiB - 1}`),
    );
    await other.close();
  });

  test("memory is bounded: what was used longest ago is asked for again", async () => {
    const store = await HttpStore.open(url, { ...QUICK, cacheBytes: 64 * KiB });
    for (let unit = 0; unit < 8; unit++) await read(store, unit * 16 * KiB, 1);
    const before = server.asked.length;
    await read(store, 7 * 16 * KiB, 1);
    await read(store, 4 * 16 * KiB, 1);
    expect(server.asked.length).toBe(before);
    await read(store, 0, 1);
    expect(server.asked.length).toBe(before + 1);
    await store.close();
  });
});

describe("faults that pass", () => {
  const FAULTS: [name: string, fault: Fault][] = [
    ["the connection is cut", answering((response) => response.destroy())],
    [
      "the connection is cut in the middle of the body",
      (_, response) => {
        response.writeHead(206, {
          etag: '"0"',
          "content-length": 16 * KiB,
          "content-range": `bytes 16384-32767/${CONTENT.length}`,
        });
        response.write(CONTENT.subarray(16384, 20000));
        setTimeout(() => response.destroy(), 5);
        return true;
      },
    ],
    [
      "the body is too short",
      (_, response) => {
        response.writeHead(206, { etag: '"0"', "content-range": `bytes 16384-32767/${CONTENT.length}` });
        response.end(CONTENT.subarray(16384, 20000));
        return true;
      },
    ],
    ...[500, 502, 503, 429, 408].map((status): [string, Fault] => [
      `status ${status}`,
      answering((response) => response.writeHead(status, { "retry-after": "0" }).end("busy")),
    ]),
    ["no answer", () => true],
    [
      "an answer that stops",
      (_, response) => {
        response.writeHead(206, {
          etag: '"0"',
          "content-length": 16 * KiB,
          "content-range": `bytes 16384-32767/${CONTENT.length}`,
        });
        response.write(CONTENT.subarray(16384, 20000));
        return true;
      },
    ],
  ];
  /** Milliseconds: short only where the fault is that nothing comes. */
  const patience = (name: string) => (/no answer|stops/.test(name) ? 200 : 20_000);
  test.each(FAULTS)("%s: asked again, and the bytes are right", async (name, fault) => {
    const store = await HttpStore.open(url, { ...QUICK, timeout: patience(name) });
    server.fault = (asked, response, count) => count < 4 && fault(asked, response, count);
    expect(equal(await read(store, 16_384, 16_384), 16_384)).toBe(true);
    expect(ranges()).toEqual(["0-16383", "16384-32767", "16384-32767", "16384-32767"]);
    await store.close();
  });

  test.each(FAULTS)("%s, always: an error after so many times, and the store can go on", async (name, fault) => {
    const store = await HttpStore.open(url, { ...QUICK, timeout: patience(name), retries: 2 });
    server.fault = fault;
    await expect(read(store, 16_384, 100)).rejects.toMatchObject({
      code: "IO",
      message: expect.stringContaining("3 times"),
    });
    expect(server.asked.length).toBe(4);
    server.fault = () => false;
    expect(equal(await read(store, 16_384, 100), 16_384)).toBe(true);
    await store.close();
  });

  test("a server that is not there", async () => {
    const idle = createServer();
    await new Promise<void>((resolve) => idle.listen(0, "127.0.0.1", resolve));
    const { port } = idle.address() as { port: number };
    await new Promise((resolve) => idle.close(resolve));
    await expect(HttpStore.open(`http://127.0.0.1:${port}/x`, { ...QUICK, retries: 1 })).rejects.toMatchObject({
      code: "IO",
      message: expect.stringMatching(/ECONNREFUSED.*2 times/),
    });
  });
});

describe("servers that cannot serve it", () => {
  const REFUSED: [name: string, fault: Fault, code: string, message: RegExp][] = [
    [
      "ranges are ignored",
      answering((response) => response.writeHead(200, { etag: '"0"' }).end(CONTENT)),
      "UNSUPPORTED",
      /ignores ranges/,
    ],
    [
      "compressed on the way",
      (_, response) => {
        response.writeHead(206, {
          etag: '"0"',
          "content-encoding": "br",
          "content-range": `bytes 0-16383/${CONTENT.length}`,
        });
        response.end("x");
        return true;
      },
      "UNSUPPORTED",
      /compresses/,
    ],
    [
      "nothing tells versions apart",
      (_, response) => {
        response.writeHead(206, { "content-range": `bytes 0-16383/${CONTENT.length}` }).end(CONTENT.subarray(0, 16384));
        return true;
      },
      "UNSUPPORTED",
      /whether the file changes/,
    ],
    [
      "another range than asked for",
      (_, response) => {
        response.writeHead(206, { etag: '"0"', "content-range": `bytes 1-16384/${CONTENT.length}` });
        response.end(CONTENT.subarray(1, 16385));
        return true;
      },
      "PROTOCOL",
      /bytes 1-16384 for 0-16383/,
    ],
    [
      "more bytes than announced",
      (_, response) => {
        response.writeHead(206, { etag: '"0"', "content-range": `bytes 0-16383/${CONTENT.length}` });
        response.end(CONTENT.subarray(0, 100_000));
        return true;
      },
      "PROTOCOL",
      /more than the 16384 bytes/,
    ],
    ["404", answering((response) => response.writeHead(404).end()), "NOT_FOUND", /404/],
    ["403", answering((response) => response.writeHead(403).end()), "DENIED", /403/],
    ["418", answering((response) => response.writeHead(418, { etag: '"0"' }).end()), "IO", /418/],
  ];
  test.each(REFUSED)("%s", async (_, fault, code, message) => {
    server.fault = fault;
    await expect(HttpStore.open(url, QUICK)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(server.asked.length).toBe(1);
  });

  test("a size that only HEAD tells", async () => {
    server.fault = ({ method, range }, response) => {
      if (method === "HEAD") return false;
      const [from, to] = range!.replace("bytes=", "").split("-").map(Number);
      response.writeHead(206, { etag: '"0"' }).end(CONTENT.subarray(from, to + 1));
      return true;
    };
    const store = await HttpStore.open(url, QUICK);
    expect(store.size).toBe(CONTENT.length);
    expect(equal(await read(store, CONTENT.length - 50, 50), CONTENT.length - 50)).toBe(true);
    await store.close();
  });
});

describe("a file that changes while it is read", () => {
  const NEW = CONTENT.map((byte) => byte ^ 0xff);
  const CASES: [name: string, before: object, after: object, obeys: boolean][] = [
    ["ETag, and the server looks at conditions", { etag: '"a"' }, { etag: '"b"' }, true],
    ["ETag, and the server does not", { etag: '"a"' }, { etag: '"b"' }, false],
    ["weak ETag", { etag: 'W/"a"' }, { etag: 'W/"b"' }, false],
    ["an ETag that is gone", { etag: '"a"' }, {}, false],
    [
      "Last-Modified",
      { modified: "Thu, 01 Jan 2026 00:00:00 GMT" },
      { modified: "Thu, 01 Jan 2026 00:00:01 GMT" },
      true,
    ],
    [
      "Last-Modified, and the server does not look at conditions",
      { modified: "Thu, 01 Jan 2026 00:00:00 GMT" },
      { modified: "Thu, 01 Jan 2026 00:00:01 GMT" },
      false,
    ],
  ];
  test.each(CASES)("%s: an error, and never bytes of both", async (_, before, after, obeys) => {
    const at = server.serve(CONTENT, before);
    const store = await HttpStore.open(at, QUICK);
    expect(equal(await read(store, 50_000, 100), 50_000)).toBe(true);
    server.change(at, { content: NEW, ...after });
    if (!obeys)
      server.fault = ({ headers }) => {
        delete headers["if-match"];
        delete headers["if-unmodified-since"];
        return false;
      };
    const changed = { code: "IO", message: expect.stringMatching(/changed since it was opened/) };
    await expect(read(store, 500_000, 100)).rejects.toMatchObject(changed);
    // Not even what is still in memory: the disk is not there any more.
    await expect(read(store, 50_000, 100)).rejects.toMatchObject(changed);
    await store.close();
  });

  test.each([
    ["longer", 2000 * KiB],
    ["shorter", 600 * KiB],
    ["much shorter", 10],
  ])("%s, under the same tag", async (_, length) => {
    const store = await HttpStore.open(url, QUICK);
    server.change(url, { content: new Uint8Array(length), etag: '"0"' });
    await expect(read(store, 500_000, 100)).rejects.toMatchObject({ message: expect.stringMatching(/changed since/) });
    await store.close();
  });

  test("200 in the middle is no answer", async () => {
    const store = await HttpStore.open(url, QUICK);
    server.fault = answering((response) => response.writeHead(200, { etag: '"0"' }).end(CONTENT));
    await expect(read(store, 50_000, 100)).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await store.close();
  });
});

describe("giving up", () => {
  test("the signal ends what is under way and what comes later", async () => {
    const stop = new AbortController();
    const store = await HttpStore.open(url, { ...QUICK, signal: stop.signal });
    server.fault = () => true;
    const pending = read(store, 500_000, 100);
    setTimeout(() => stop.abort(), 20);
    await expect(pending).rejects.toMatchObject({ code: "ABORTED" });
    await expect(read(store, 0, 100)).rejects.toMatchObject({ code: "ABORTED" });
    await store.close();
    await expect(HttpStore.open(url, { signal: stop.signal })).rejects.toMatchObject({ code: "ABORTED" });
  });

  test("closing ends what is under way, also between two attempts", async () => {
    const store = await HttpStore.open(url, { ...QUICK, retryDelay: 60_000 });
    server.fault = answering((response) => response.writeHead(503).end());
    const pending = read(store, 500_000, 100);
    setTimeout(() => void store.close(), 50);
    await expect(pending).rejects.toMatchObject({ code: "CLOSED" });
  });

  test("headers and another fetch are used", async () => {
    const seen: string[] = [];
    const store = await HttpStore.open(url, {
      ...QUICK,
      headers: { authorization: "Bearer x" },
      fetch: (input, init) => {
        seen.push(String(input));
        return fetch(input, init);
      },
    });
    expect(seen).toEqual([url]);
    expect(server.asked[0].headers.authorization).toBe("Bearer x");
    await store.close();
  });
});

test("a qcow2 over a server that fails one request in four is read to the last byte", async () => {
  const file = new KeptStore();
  const disk = await createDisk(file, { format: "qcow2", size: 4 << 20, clusterSize: 4096 });
  for (let at = 0; at < 4 << 20; at += 300_032) await writeBytes(disk, at - (at % 512), CONTENT.subarray(0, 100_352));
  const expected = await readBytes(disk, 0, 4 << 20);
  await disk.close();
  const address = server.serve(contentOf(file), { etag: '"q"' });
  server.fault = (_, response) => {
    if (random() > 0.25) return false;
    if (random() < 0.5) response.destroy();
    else response.writeHead(503).end();
    return true;
  };
  const over = await openDisk(await HttpStore.open(address, { ...QUICK, retries: 30 }));
  expect(over.readOnly).toBe(true);
  expect(Buffer.compare(await readBytes(over, 0, 4 << 20), expected)).toBe(0);
  await over.close();
});
