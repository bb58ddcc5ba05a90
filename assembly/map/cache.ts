// Metadata pages kept in the map's memory: 4-way set-associative, least recently used way replaced. The core only looks
// pages up; the host reads them in (src/wasm/map.ts).
import { CacheField, MapLimit, TagField } from "../spec/map";

/** Address of cached page `key`, or 0. Pages never lie at 0: the context comes before them. */
export function cachedPage(cache: usize, key: u32): usize {
  const first = (key & load<u32>(cache, CacheField.SetMask)) * MapLimit.Ways;
  const set: usize = load<u32>(cache, CacheField.Tags) + first * TagField.Size;
  // All ways are compared without a branch: which of them holds the page is chance, and a wrong guess costs more.
  const wanted = key + 1;
  const in0: u32 = u32(load<u32>(set, TagField.Key) === wanted);
  const in1: u32 = u32(load<u32>(set, TagField.Size + TagField.Key) === wanted);
  const in2: u32 = u32(load<u32>(set, 2 * TagField.Size + TagField.Key) === wanted);
  const in3: u32 = u32(load<u32>(set, 3 * TagField.Size + TagField.Key) === wanted);
  const way = in1 + in2 * 2 + in3 * 3;
  if ((in0 | way) === 0) {
    store<u32>(cache, load<u32>(cache, CacheField.Misses) + 1, CacheField.Misses);
    return 0;
  }
  const clock = load<u32>(cache, CacheField.Clock) + 1;
  store<u32>(cache, clock, CacheField.Clock);
  store<u32>(set + way * TagField.Size, clock, TagField.Stamp);
  store<u32>(cache, load<u32>(cache, CacheField.Hits) + 1, CacheField.Hits);
  return load<u32>(cache, CacheField.Pages) + ((first + way) << load<u32>(cache, CacheField.PageShift));
}
