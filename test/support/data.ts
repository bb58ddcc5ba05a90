import { readFileSync } from "node:fs";
import { gunzipSync } from "node:zlib";

/** The content of test/data/`name`.gz. */
export function dataFile(name: string): Uint8Array {
  return new Uint8Array(gunzipSync(readFileSync(new URL(`../data/${name}.gz`, import.meta.url))));
}
