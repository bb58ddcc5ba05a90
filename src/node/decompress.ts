import * as zlib from "node:zlib";
import type { Decompress } from "../core/format.ts";
import { inflate } from "../host/format/inflate.ts";

/** Less than this is unpacked sooner than a thread of the pool is woken. */
const SMALL = 16384;

/**
 * Inflates with the host's zlib. Where that finds fault, our own decoder decides: it takes what image formats take (a stream
 * without an end, once the length is reached), and its words are the same on every platform.
 * @param pool in Node's thread pool, so that several clusters are unpacked at a time
 */
export function nativeInflate(pool: boolean): Decompress {
  return (bytes, size) => {
    const options = { maxOutputLength: size, chunkSize: Math.max(size, 64) };
    if (pool && size > SMALL) {
      return new Promise((resolve, reject) => {
        zlib.inflateRaw(bytes, options, (error, plain) => {
          if (!error && plain.length === size) return resolve(plain);
          try {
            resolve(inflate(bytes, size));
          } catch (thrown) {
            reject(thrown);
          }
        });
      });
    }
    let plain: Uint8Array;
    try {
      plain = zlib.inflateRawSync(bytes, options);
    } catch {
      return inflate(bytes, size);
    }
    return plain.length === size ? plain : inflate(bytes, size);
  };
}
