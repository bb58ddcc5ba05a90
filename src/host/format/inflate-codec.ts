import type { Decompress } from "../../core/format.ts";
import { inflate } from "./inflate.ts";
import type { Codec, PackedUnit } from "./unpacker.ts";

/**
 * Packed bytes from which on another thread is worth the trouble. What takes less is unpacked in less time than it takes to
 * hand it over: what matters is how many symbols there are, not what they make.
 */
const MUCH = 2 ** 13;

/** Does raw DEFLATE data begin with bytes as they are (RFC 1951, 3.2.3)? */
function stored(bytes: Uint8Array): boolean {
  return (bytes[0] & 6) === 0;
}

/** Is it worth having the data unpacked elsewhere? */
export function heavy(bytes: Uint8Array): boolean {
  return bytes.length >= MUCH && !stored(bytes);
}

/** Raw DEFLATE, of which nothing is looked at past the unit's last byte. */
export function inflateCodec(deflate: Decompress | undefined): Omit<Codec<PackedUnit>, "damaged"> {
  return {
    here(buffers, slot, bytes, { size }) {
      if (buffers.inflate(bytes, slot, size, false) > 0) return;
      // The core does not say what is wrong.
      buffers.slots[slot].set(inflate(bytes, size));
    },
    ...(deflate && {
      elsewhere: (bytes: Uint8Array, { size }: PackedUnit) => (heavy(bytes) ? deflate(bytes, size) : undefined),
    }),
  };
}
