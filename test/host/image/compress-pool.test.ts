import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { inflateRawSync, inflateSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import type { Packing } from "../../../src/core/format.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { unzstd } from "../../../src/host/format/zstd.ts";
import { compareDisks } from "../../../src/host/image/compare.ts";
import { compressPool, type PackWorker, serveCompression } from "../../../src/host/image/compress-pool.ts";
import { packDisk } from "../../../src/host/image/pack.ts";
import { webCompressor } from "../../../src/host/image/web-compressor.ts";
import { zstdWorkers } from "../../../src/node/zstd-workers.ts";
import { KeptStore } from "../../support/disks.ts";
import { buildDist } from "../../support/dist.ts";

const UNIT = 65536;
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => "none",
    ({ code }) => code,
  );
const PACKING: Packing = { unit: UNIT, codec: "zstd" };
const text = (i: number) => new Uint8Array(UNIT).map((_, at) => (at % (7 + i)) + i);

/** Workers that are none: they answer over a channel, the bytes turned round. */
function channels(compress = (bytes: Uint8Array) => bytes.slice(0, 100).reverse()) {
  const ports: MessagePort[] = [];
  const ended: MessagePort[] = [];
  const done: number[] = [];
  const start = (): PackWorker => {
    const { port1, port2 } = new MessageChannel();
    const number = ports.push(port1) - 1;
    done.push(0);
    serveCompression(port2 as never, async (bytes) => {
      done[number]++;
      // The first of several orders takes longest.
      await new Promise((resolve) => setTimeout(resolve, bytes[0] < 8 ? 3 : 0));
      return compress(bytes);
    });
    port2.start();
    port1.start();
    return Object.assign(port1, { terminate: () => ended.push(port1) && port1.close() }) as never;
  };
  return { start, ports, ended, done };
}

describe("compressPool", () => {
  test("each unit gets its own answer; as many workers as there is work for, all of them used", async () => {
    const { start, ports, ended, done } = channels();
    const compress = compressPool(start, 3);
    expect(ports.length).toBe(0);
    expect(await compress(text(0), PACKING)).toEqual(text(0).slice(0, 100).reverse());
    expect(ports.length).toBe(1);
    for (let round = 0; round < 3; round++) {
      const units = Array.from({ length: 60 }, (_, i) => text(i));
      const packed = await Promise.all(units.map((unit) => compress(unit, PACKING)));
      for (const [i, unit] of units.entries()) expect(packed[i]).toEqual(unit.slice(0, 100).reverse());
    }
    expect(ports.length).toBe(3);
    expect(Math.min(...done)).toBeGreaterThan(20);
    compress.close();
    expect(ended).toEqual(ports);
  });

  test("what one unit's compressor throws fails those sent with it, and no others", async () => {
    const { start } = channels((bytes) => {
      if (bytes[0] === 5) throw new Error("five");
      return bytes.slice(0, 1);
    });
    const compress = compressPool(start, 2);
    await expect(compress(text(5), PACKING)).rejects.toMatchObject({ code: "IO", message: "five" });
    expect(await compress(text(4), PACKING)).toEqual(Uint8Array.of(4));
    compress.close();
  });

  test("what has been packed stays as it is until it is released; then its memory is used again, not before all of it is", async () => {
    const { start } = channels((bytes) => (bytes[0] === 7 ? new Uint8Array(UNIT + 1).fill(7) : bytes.slice(0, 50)));
    const seen: number[] = [];
    const watched = (): PackWorker => {
      const worker = start();
      const post = worker.postMessage.bind(worker);
      worker.postMessage = (order, transfer) => {
        // Its last byte is nobody's: whoever has it again has the memory again.
        seen.push(order.memory[order.memory.length - 1]++);
        post(order, transfer);
      };
      return worker;
    };
    const compress = compressPool(watched, 1);
    const [first, second] = await Promise.all([0, 1].map((i) => compress(text(i), PACKING)));
    expect(first.buffer).toBe(second.buffer);
    compress.release!(first);
    // What has become longer has no room there.
    const [fourth, third] = await Promise.all([7, 2].map((i) => compress(text(i), PACKING)));
    expect(fourth.buffer).not.toBe(third.buffer);
    expect(seen).toEqual([0, 0]);
    for (const [i, packed] of [first, second, third].entries()) expect(packed).toEqual(text(i).slice(0, 50));
    expect(fourth).toEqual(new Uint8Array(UNIT + 1).fill(7));
    for (const packed of [second, third, fourth]) compress.release!(packed);
    // Memory that is asked for twice is given once.
    compress.release!(third);
    await Promise.all([0, 1, 2].map((i) => compress(text(i), PACKING)));
    expect(seen.slice(2)).toEqual([1]);
    compress.close();
  });

  test("a worker that fails, or cannot start, fails everything, now and later; so does closing", async () => {
    const { start, ports } = channels();
    const compress = compressPool(start, 2);
    const waiting = [0, 1, 2, 3].map((i) => codeOf(compress(text(i), PACKING)));
    await Promise.resolve();
    ports[0].dispatchEvent(Object.assign(new Event("error"), { message: "gone" }));
    expect(await Promise.all(waiting)).toEqual(["IO", "IO", "IO", "IO"]);
    await expect(compress(text(0), PACKING)).rejects.toThrow("gone");
    const refuse = (): PackWorker => {
      throw new Error("no workers here");
    };
    const none = compressPool(refuse, 2);
    await expect(none(text(0), PACKING)).rejects.toThrow("no workers here");
    // Where one can be had, it does it all.
    const first = [channels().start];
    const alone = compressPool(() => (first.pop() ?? refuse)(), 3);
    expect((await Promise.all([0, 1, 2, 3].map((i) => alone(text(i), PACKING)))).length).toBe(4);
    alone.close();
    const closed = compressPool(channels().start, 2);
    const last = codeOf(closed(text(0), PACKING));
    closed.close();
    expect(await last).toBe("CLOSED");
  });
});

describe("zstd on Node's workers", () => {
  test("what they make is zstd; a large disk is packed by them", async () => {
    const compress = zstdWorkers();
    const units = Array.from({ length: 40 }, (_, i) => text(i));
    const packed = await Promise.all(units.map((unit) => compress(unit, PACKING)));
    for (const [i, bytes] of packed.entries()) expect(Buffer.compare(unzstd(bytes, UNIT), units[i])).toBe(0);
    compress.close!();
    expect(await codeOf(compress(units[0], PACKING))).toBe("CLOSED");
  });

  beforeAll(buildDist, 120_000);
  test("nobody has to close them for the process to end, nor does it end too early", async () => {
    const script = `
      import { zstdWorkers } from "./dist/src/node/zstd-workers.js";
      const compress = zstdWorkers();
      const packed = await Promise.all([1, 2, 3].map((i) => compress(new Uint8Array(65536).fill(i), { codec: "zstd" })));
      console.log(packed.length, packed[0][0]);`;
    const node = promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], { timeout: 20_000 });
    expect((await node).stdout).toBe("3 40\n");
  });
});

test("the platform's own streams compress what others unpack; without a compressor, packDisk takes them", async () => {
  const bytes = text(3);
  expect(Buffer.compare(inflateRawSync(await webCompressor({ codec: "deflate" })(bytes, PACKING)), bytes)).toBe(0);
  expect(Buffer.compare(inflateSync(await webCompressor({ codec: "zlib" })(bytes, PACKING)), bytes)).toBe(0);
  const content = Buffer.concat(Array.from({ length: 20 }, (_, i) => text(i)));
  const source = await openDisk(new KeptStore(content), { format: "raw", readOnly: true });
  for (const options of [{ format: "qcow2" }, { format: "vmdk", subformat: "streamOptimized" }]) {
    const store = new KeptStore();
    const target = await createDisk(store, { ...options, size: content.length });
    await packDisk(source, target, { fresh: true });
    await target.close();
    expect(store.size).toBeLessThan(content.length);
    const again = await openDisk(store, { format: options.format, readOnly: true });
    expect(await compareDisks(source, again)).toMatchObject({ identical: true });
  }
});
