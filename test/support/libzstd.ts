import { createRequire } from "node:module";

/** libzstd, as WebAssembly: what others make of Zstandard frames. */
export const libzstd: {
  init(): Promise<void>;
  compress(bytes: Uint8Array, level: number): Uint8Array;
  decompress(bytes: Uint8Array): Uint8Array;
} = createRequire(import.meta.url)("@bokuweb/zstd-wasm");
