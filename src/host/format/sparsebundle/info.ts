// Info.plist of an Apple sparse bundle disk image (libmodi, "Sparse bundle disk image (.sparsebundle) format").
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";
import { type Plist, parsePlist } from "../plist.ts";

const LIST = "property list";
const TYPE = "com.apple.diskimage.sparsebundle";
const SECTOR = 512;
const MAX_BYTES = 2 ** 16;
const MAX_BAND = 2 ** 40;
/** 128 TiB in the usual 8 MiB. */
const MAX_BANDS = 2 ** 24;

export interface BundleInfo {
  /** Bytes. */
  size: number;
  bandBytes: number;
}

/** Does a file that begins so say how large the bands of a bundle are? */
export function isBundleInfo(head: Uint8Array): boolean {
  const text = textAt(head, 0, head.length);
  return /^(?:\xef\xbb\xbf)?\s*<\?xml[^>]*\?>\s*<!DOCTYPE plist /.test(text) && text.includes("<key>band-size</key>");
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED */
export function* readInfo(store: Store): Flow<BundleInfo> {
  const wrong = (what: string) => corrupt(store, LIST, 0, what);
  if (store.size > MAX_BYTES) throw wrong(`has ${store.size} bytes, more than ${MAX_BYTES}`);
  let list: Plist;
  try {
    list = parsePlist(new TextDecoder("utf-8", { fatal: true }).decode(yield* read(store, 0, store.size)));
  } catch (thrown) {
    if (!(thrown instanceof RangeError) && !(thrown instanceof TypeError)) throw thrown;
    throw wrong(`cannot be read: ${thrown.message}`);
  }
  const value = (key: string) => (list instanceof Map ? list.get(key) : undefined);
  const type = value("diskimage-bundle-type");
  if (type !== TYPE) throw wrong(`is of a bundle of type "${String(type)}"`);
  const version = value("bundle-backingstore-version");
  if (version !== 1) throw unsupported(store, LIST, `version ${String(version)} of sparse bundles is not known`);
  const bytes = (key: string, most: number): number => {
    const number = value(key);
    if (typeof number === "number" && Number.isSafeInteger(number) && number > 0 && number % SECTOR === 0) {
      if (number <= most) return number;
    }
    throw wrong(`says that ${key} is ${String(number)}`);
  };
  const [size, bandBytes] = [bytes("size", Number.MAX_SAFE_INTEGER), bytes("band-size", MAX_BAND)];
  if (size / bandBytes > MAX_BANDS) throw unsupported(store, LIST, `a disk of ${size} bytes in bands of ${bandBytes}`);
  return { size, bandBytes };
}
