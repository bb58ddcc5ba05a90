import { ParavaneError } from "../../core/error.ts";
import type { Packing } from "../../core/format.ts";
import type { Compress } from "./pack.ts";

const FORMATS = { deflate: "deflate-raw", zlib: "deflate", zstd: "zstd" } as const;

/**
 * Compresses with the platform's `CompressionStream`, which pages and Node have. Its window is 32 KiB, whatever `packing` says:
 * QEMU reads that in qcow2 too, since it unpacks a cluster at once.
 * @throws ParavaneError UNSUPPORTED when the platform has no such format: few have zstd
 */
export function webCompressor(packing: Pick<Packing, "codec">): Compress {
  const format = FORMATS[packing.codec] as CompressionFormat;
  try {
    new CompressionStream(format);
  } catch (cause) {
    const hint = "Give a compressor of your own (on workers: compressPool), or choose compression_type=zlib";
    throw new ParavaneError("UNSUPPORTED", `nothing here compresses with ${packing.codec}`, {}, { cause, hint });
  }
  return async (bytes) => {
    const { readable, writable } = new CompressionStream(format);
    const writer = writable.getWriter();
    const packed = new Response(readable).arrayBuffer();
    const [whole] = await Promise.all([packed, writer.write(bytes as Uint8Array<ArrayBuffer>), writer.close()]);
    return new Uint8Array(whole);
  };
}
