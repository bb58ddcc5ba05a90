import * as zlib from "node:zlib";
import type { Packing } from "../core/format.ts";
import type { Compress } from "../host/image/pack.ts";
import { zstdWorkers } from "./zstd-workers.ts";

/**
 * Compresses in Node's thread pool, as many units at a time as it has threads. For zstd: Node's own (22.15 and later), else
 * the package @bokuweb/zstd-wasm, if it is installed, on workers, which `close` ends.
 * @throws ParavaneError UNSUPPORTED when there is nothing that compresses like this
 */
export async function compressor(packing: Packing): Promise<Compress> {
  if (packing.codec === "deflate") return deflate;
  if (packing.codec === "zlib") return deflateZlib;
  return nodeZstd() ?? zstdWorkers();
}

function deflate(bytes: Uint8Array, { windowBits = 15 }: Packing): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    // QEMU's level, and its window: readers have no larger one.
    zlib.deflateRaw(bytes, { windowBits, level: 6 }, (error, packed) => (error ? reject(error) : resolve(packed)));
  });
}

function deflateZlib(bytes: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    zlib.deflate(bytes, { level: 6 }, (error, packed) => (error ? reject(error) : resolve(packed)));
  });
}

function nodeZstd(): Compress | undefined {
  const { zstdCompress } = zlib as unknown as {
    zstdCompress?: (bytes: Uint8Array, done: (error: Error | null, packed: Uint8Array) => void) => void;
  };
  if (!zstdCompress) return undefined;
  return (bytes) =>
    new Promise((resolve, reject) => zstdCompress(bytes, (error, packed) => (error ? reject(error) : resolve(packed))));
}
