import * as zlib from "node:zlib";
import { asParavaneError, ParavaneError } from "../core/error.ts";
import type { Packing } from "../core/format.ts";
import type { Compress } from "../host/image/pack.ts";

type Zstd = (bytes: Uint8Array) => Promise<Uint8Array>;

/**
 * Compresses in Node's thread pool, as many units at a time as it has threads. For zstd: Node's own (22.15 and later), else
 * the package @bokuweb/zstd-wasm, if it is installed.
 * @throws ParavaneError UNSUPPORTED when there is nothing that compresses like this
 */
export async function compressor(packing: Packing): Promise<Compress> {
  if (packing.codec === "deflate") return deflate;
  if (packing.codec === "zlib") return deflateZlib;
  const zstd = nodeZstd() ?? (await wasmZstd());
  return (bytes) => zstd(bytes);
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

function nodeZstd(): Zstd | undefined {
  const { zstdCompress } = zlib as unknown as {
    zstdCompress?: (bytes: Uint8Array, done: (error: Error | null, packed: Uint8Array) => void) => void;
  };
  if (!zstdCompress) return undefined;
  return (bytes) =>
    new Promise((resolve, reject) => zstdCompress(bytes, (error, packed) => (error ? reject(error) : resolve(packed))));
}

async function wasmZstd(): Promise<Zstd> {
  const name = "@bokuweb/zstd-wasm";
  let zstd: { init(): Promise<void>; compress(bytes: Uint8Array, level?: number): Uint8Array };
  try {
    zstd = await import(name);
    await zstd.init();
  } catch (thrown) {
    throw new ParavaneError(
      "UNSUPPORTED",
      `nothing here compresses with zstd (${asParavaneError(thrown).message.split("\n")[0]})`,
      {},
      { cause: thrown, hint: `Use Node 22.15 or later, install ${name}, or choose compression_type=zlib` },
    );
  }
  return async (bytes) => zstd.compress(bytes, 3);
}
