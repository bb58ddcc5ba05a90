import type { Decompress } from "../../../core/format.ts";
import { heavy } from "../inflate-codec.ts";
import { corrupt } from "../io.ts";
import type { Unit } from "../lookup/mapper.ts";
import type { Codec } from "../unpacker.ts";
import { GRAIN_MARKER, type GrainTables, grainBytes, unpackGrain } from "./grains.ts";

/** Bytes before and after the deflate data of RFC 1950. */
const ZLIB_HEAD = 2;
const ZLIB_TAIL = 4;

/** Where the deflate data is, if this is zlib data of the usual kind: deflate, without a dictionary. */
function deflated(zlib: Uint8Array): Uint8Array | undefined {
  const usual =
    zlib.length > 6 && (zlib[0] & 15) === 8 && ((zlib[0] << 8) | zlib[1]) % 31 === 0 && (zlib[1] & 32) === 0;
  return usual ? zlib.subarray(ZLIB_HEAD) : undefined;
}

const sumAt = (zlib: Uint8Array, at: number) =>
  at + ZLIB_TAIL <= zlib.length ? new DataView(zlib.buffer, zlib.byteOffset).getUint32(at) : undefined;

/** Grains with markers, in zlib's format. Whatever is not as usual, the decoder in TypeScript judges. */
export function grainCodec(tables: GrainTables, deflate: Decompress | undefined): Codec<Unit> {
  const { store, grain, markers } = tables;
  const lead = markers ? GRAIN_MARKER : 0;
  return {
    ...(markers && {
      measure(bytes: Uint8Array, unit: Unit) {
        unit.packed = grainBytes(tables, bytes, unit);
      },
    }),
    ...(deflate && {
      elsewhere(bytes: Uint8Array, { size }: Unit) {
        const data = deflated(bytes.subarray(lead));
        return data && size === grain && heavy(data) ? deflate(data, grain) : undefined;
      },
      proves: (buffers, slot, bytes) => buffers.adler32(slot, grain) === sumAt(bytes, bytes.length - ZLIB_TAIL),
    }),
    here(buffers, slot, bytes, { size }) {
      const zlib = bytes.subarray(lead);
      const data = deflated(zlib);
      const used = data && size === grain ? buffers.inflate(data, slot, grain, true) : 0;
      if (used > 0 && sumAt(zlib, ZLIB_HEAD + used) === buffers.adler32(slot, grain)) return;
      buffers.slots[slot].set(unpackGrain(zlib, grain, size));
    },
    damaged: ({ position, method }, what) =>
      corrupt(store, "compressed grain", position + lead, what.replace(/^does not unpack: /, `$&grain ${method}: `)),
  } satisfies Codec<Unit>;
}
