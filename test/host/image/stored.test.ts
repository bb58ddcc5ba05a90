import { inflateSync } from "node:zlib";
import { expect, test } from "vitest";
import { adler32, unzlib } from "../../../src/host/format/inflate.ts";
import { storedZlib } from "../../../src/host/image/stored.ts";

test.each([0, 1, 512, 65535, 65536, 131070, 131071])(
  "%i bytes as they are are zlib data that everybody reads",
  (length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8));
    const packed = storedZlib(bytes, adler32(bytes));
    expect(packed.length).toBe(11 + length + (length > 65535 ? 5 : 0) + (length > 131070 ? 5 : 0));
    expect(Buffer.compare(inflateSync(packed), bytes)).toBe(0);
    expect(Buffer.compare(unzlib(packed, length), bytes)).toBe(0);
  },
);
