import { coreModule } from "../../wasm/core.ts";
import { PACK_INPUT, PACK_ROOM, PACK_SLACK, ZstdPacker } from "../../wasm/zstd-packer.ts";
import type { Compress } from "./pack.ts";

/** Compresses with zstd in the core, on this thread. */
export function coreZstd(): Compress {
  let most = 0;
  let packer: ZstdPacker | undefined;
  return async (bytes) => {
    if (!packer || bytes.length > most) packer = new ZstdPacker((most = bytes.length));
    return packer.pack(bytes);
  };
}

/** What another thread needs to do as `ZstdPacker` does: the core, and where in a memory its input and output are. */
export function coreZstdParts() {
  return { module: coreModule(), input: PACK_INPUT, slack: PACK_SLACK, room: PACK_ROOM };
}
