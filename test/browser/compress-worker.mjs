// A page's worker that compresses, as `compressPool` has it.
import { serveCompression, webCompressor } from "../../dist/src/index.js";

const compressors = new Map();
serveCompression(self, (bytes, packing) => {
  const compress = compressors.get(packing.codec) ?? webCompressor(packing);
  compressors.set(packing.codec, compress);
  return compress(bytes, packing);
});
