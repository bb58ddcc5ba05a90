// A page's worker that compresses, as `compressPool` has it.
import { serveCompression, webCompressor } from "../../dist/src/index.js";

serveCompression(self, webCompressor({ codec: "deflate" }));
