// qcow2's two levels ("Cluster mapping", "Extended L2 Entries" in the specification). Entries are big-endian:
//
//         63        62          55 ── 9      0
//   L1  [ alone ·            L2 table offset   ]
//   L2  [ alone · packed · cluster offset · zero ]   Extended: then a bit a subcluster, [ 63 ── 32 zero | 31 ── 0 here ]
//
// "alone" is QEMU's "copied": nobody else refers to it, so that it may be written in place.
import { CacheField, MapEnd, MapExtent, MapField, MapFlag } from "../spec/map";
import { cachedPage } from "./cache";
import { answer, corrupt, miss, placed } from "./run";
import { topEntry } from "./table";

const OFFSET: u64 = 0x00fffffffffffe00;
const ALONE: u64 = 1 << 63;
const PACKED: u64 = 1 << 62;
const ZERO: u64 = 1;

export function qcow2Run(ctx: usize, offset: u64, left: u64, write: bool): u32 {
  const spanShift = <u64>load<u32>(ctx, MapField.SpanShift);
  const index = <u32>(offset >> spanShift);
  const withinSpan = offset & (((<u64>1) << spanShift) - 1);
  const at = topEntry(ctx, index);
  if (at === 0) return MapEnd.Miss;
  const hole = load<u32>(ctx, MapField.Hole);
  const top = bswap<u64>(load<u64>(at));
  const table = top & OFFSET;
  if (table === 0 || (write && (top & ALONE) === 0)) {
    return answer(ctx, hole, 0, min<u64>(left, ((<u64>1) << spanShift) - withinSpan));
  }
  const leafShift = load<u32>(ctx, MapField.LeafShift);
  const leafBytes = (<u64>1) << (<u64>leafShift);
  if ((table & (leafBytes - 1)) !== 0 || !placed(ctx, table, table + leafBytes)) return corrupt(ctx, table);

  const flags = load<u32>(ctx, MapField.Flags);
  const blockShift = <u64>load<u32>(ctx, MapField.BlockShift);
  const entryShift: u64 = flags & MapFlag.Extended ? 4 : 3;
  const byte = (withinSpan >> blockShift) << entryShift;
  const pageShift = <u64>load<u32>(ctx + MapField.LeafCache, CacheField.PageShift);
  const key = (index << (leafShift - <u32>pageShift)) + <u32>(byte >> pageShift);
  const page = cachedPage(ctx + MapField.LeafCache, key);
  if (page === 0) return miss(ctx, 1, key, table + ((byte >> pageShift) << pageShift));
  const leaf = page + <usize>(byte & (((<u64>1) << pageShift) - 1));
  const entry = bswap<u64>(load<u64>(leaf));

  const block = (<u64>1) << blockShift;
  const within = offset & (block - 1);
  let length = min<u64>(left, block - within);
  if (entry & PACKED) return answer(ctx, write ? hole : MapExtent.Packed, 0, length);
  const external = (flags & MapFlag.External) !== 0;
  const host = entry & OFFSET;
  let here = host !== 0 || (external && (entry & ALONE) !== 0);

  if (flags & MapFlag.Extended) {
    const bits = bswap<u64>(load<u64>(leaf, 8));
    if ((<u32>bits & <u32>(bits >> 32)) !== 0 || (!here && <u32>bits !== 0)) return corrupt(ctx, host);
    const subShift = blockShift - 5;
    const sub = <u32>(within >> subShift);
    // The subclusters from this one on that are in its state become ones, so the run is as long as the trailing ones.
    const stored = (<u32>bits >> sub) & 1;
    const zeros = (<u32>(bits >> 32) >> sub) & 1;
    const same = (<u32>bits ^ (stored - 1)) & (<u32>(bits >> 32) ^ (zeros - 1));
    const run = ctz<u64>(~(<u64>(same >> sub)));
    length = min<u64>(length, ((<u64>sub + run) << subShift) - within);
    if (zeros) return answer(ctx, MapExtent.Zero, 0, length);
    here = stored !== 0;
  } else if (entry & ZERO) {
    if (flags & MapFlag.NoZero) return corrupt(ctx, host);
    return answer(ctx, MapExtent.Zero, 0, length);
  }
  if (!here) return answer(ctx, hole, 0, length);

  if ((host & (block - 1)) !== 0) return corrupt(ctx, host);
  if (external) {
    // "The offset must match the guest offset."
    if (host !== offset - within) return corrupt(ctx, host);
  } else if (!placed(ctx, host, host + block)) return corrupt(ctx, host);
  const position = host + within;
  if (write) return answer(ctx, entry & ALONE ? MapExtent.Data : hole, position, length);
  const end = load<u64>(ctx, MapField.DataEnd);
  if (position >= end) return answer(ctx, MapExtent.Zero, 0, length);
  return answer(ctx, MapExtent.Data, position, min<u64>(length, end - position));
}
