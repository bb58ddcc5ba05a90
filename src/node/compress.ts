import * as zlib from "node:zlib";
import type { Packing } from "../core/format.ts";
import type { Compress } from "../host/image/pack.ts";
import { zstdWorkers } from "./zstd-workers.ts";

/**
 * Compresses in Node's thread pool, as many units at a time as it has threads; zstd in the core, on workers, which `close`
 * ends: Node's own, since 22.15, makes a new compressor for each unit, and takes twice as long.
 */
export function compressor(packing: Packing): Compress {
  if (packing.codec === "deflate") return deflate;
  return packing.codec === "zlib" ? deflateZlib : zstdWorkers();
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
