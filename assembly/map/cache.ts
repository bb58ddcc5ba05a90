// Metadata pages kept in the map's memory: 4-way set-associative, least recently used way replaced. The core only looks
// pages up; the host reads them in (src/wasm/map.ts).
import { CacheField, MapLimit, TagField } from "../spec/map";

/** Address of cached page `key`, or 0. Pages never lie at 0: the context comes before them. */
export function cachedPage(cache: usize, key: u32): usize {
  const first = (key & load<u32>(cache, CacheField.SetMask)) * MapLimit.Ways;
  let tag: usize = load<u32>(cache, CacheField.Tags) + first * TagField.Size;
  for (let way = 0; way < MapLimit.Ways; way++, tag += TagField.Size) {
    if (load<u32>(tag, TagField.Key) === key + 1) {
      const clock = load<u32>(cache, CacheField.Clock) + 1;
      store<u32>(cache, clock, CacheField.Clock);
      store<u32>(tag, clock, TagField.Stamp);
      store<u32>(cache, load<u32>(cache, CacheField.Hits) + 1, CacheField.Hits);
      return load<u32>(cache, CacheField.Pages) + ((first + way) << load<u32>(cache, CacheField.PageShift));
    }
  }
  store<u32>(cache, load<u32>(cache, CacheField.Misses) + 1, CacheField.Misses);
  return 0;
}
