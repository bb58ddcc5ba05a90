import type { Packing } from "../../core/format.ts";
import { coreZstd } from "./core-zstd.ts";
import type { Compress } from "./pack.ts";

const FORMATS = { deflate: "deflate-raw", zlib: "deflate" } as const;

/**
 * Compresses with what pages and Node have alike: their `CompressionStream`, and for zstd the core, on this thread. The
 * stream's window is 32 KiB, whatever `packing` says: QEMU reads that in qcow2 too, since it unpacks a cluster at once.
 */
export function webCompressor({ codec }: Pick<Packing, "codec">): Compress {
  if (codec === "zstd") return coreZstd();
  const format = FORMATS[codec];
  return async (bytes) => {
    const { readable, writable } = new CompressionStream(format);
    const writer = writable.getWriter();
    const packed = new Response(readable).arrayBuffer();
    const [whole] = await Promise.all([packed, writer.write(bytes as Uint8Array<ArrayBuffer>), writer.close()]);
    return new Uint8Array(whole);
  };
}
