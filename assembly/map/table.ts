// One level: a table of blocks (VHD's BAT, VDI's block map), each block optionally with a bitmap of its valid sectors.
//
//   table [ e0 | e1 | e2 … ]          e1 ──► ┌────────┬──────────────────────┐
//                                            │ bitmap │ block data           │
//                                            └────────┴──────────────────────┘
//                                            └ EntryField.Data ┘
import { CacheField, EntryField, MapEnd, MapExtent, MapField } from "../spec/map";
import { cachedPage } from "./cache";
import { answer, corrupt, miss, placed, readEntry } from "./run";

/** Address of top entry `index` in its cached page, or 0 after noting the miss. */
export function topEntry(ctx: usize, index: u32): usize {
  const byte = (<u64>index) << load<u32>(ctx + MapField.Top, EntryField.Shift);
  const shift = <u64>load<u32>(ctx + MapField.TopCache, CacheField.PageShift);
  const key = <u32>(byte >> shift);
  const page = cachedPage(ctx + MapField.TopCache, key);
  if (page === 0) {
    miss(ctx, 0, key, load<u64>(ctx, MapField.TableStart) + ((<u64>key) << shift));
    return 0;
  }
  return page + <usize>(byte & (((<u64>1) << shift) - 1));
}

export function tableRun(ctx: usize, offset: u64, left: u64): u32 {
  const shift = <u64>load<u32>(ctx, MapField.BlockShift);
  const block = (<u64>1) << shift;
  const within = offset & (block - 1);
  const length = min<u64>(left, block - within);
  const index = <u32>(offset >> shift);

  const at = topEntry(ctx, index);
  if (at === 0) return MapEnd.Miss;
  const entries = ctx + MapField.Top;
  const value = readEntry(entries, at);
  if (value === load<u64>(entries, EntryField.Absent)) return answer(ctx, load<u32>(ctx, MapField.Hole), 0, length);
  if (value === load<u64>(entries, EntryField.Zero)) return answer(ctx, MapExtent.Zero, 0, length);

  const start = load<u64>(entries, EntryField.Origin) + value * load<u64>(entries, EntryField.Unit);
  const data = start + load<u64>(entries, EntryField.Data);
  if (!placed(ctx, start, data + block)) return corrupt(ctx, start);
  if (load<u32>(ctx, MapField.BitShift) === 0) return answer(ctx, MapExtent.Data, data + within, length);
  return bitmapRun(ctx, index, start, data, within, length);
}

/**
 * As much of the run as has the same bit as its first sector: set = in the block, clear = a hole. Bit 7 of byte 0 is the
 * block's first sector (VHD 1.0, "Data Blocks").
 */
function bitmapRun(ctx: usize, index: u32, start: u64, data: u64, within: u64, length: u64): u32 {
  const unit = <u64>load<u32>(ctx, MapField.BitShift);
  const pageShift = <u64>load<u32>(ctx + MapField.LeafCache, CacheField.PageShift);
  const pageOfBlock = within >> (unit + pageShift + 3);
  const key = (index << (load<u32>(ctx, MapField.LeafShift) - <u32>pageShift)) + <u32>pageOfBlock;
  const page = cachedPage(ctx + MapField.LeafCache, key);
  if (page === 0) return miss(ctx, 1, key, start + (pageOfBlock << pageShift));

  // Bits are counted from the start of the page; the run starts `inside` bytes into the first one.
  const first = <u32>(within >> unit) & (((<u32>8) << (<u32>pageShift)) - 1);
  const inside = within & (((<u64>1) << unit) - 1);
  const end = min<u32>((<u32>8) << (<u32>pageShift), first + <u32>((inside + length + ((<u64>1) << unit) - 1) >> unit));
  const set = (load<u8>(page + (first >> 3)) >> <u8>(7 - (first & 7))) & 1;
  // Up to 64 sectors a step: those equal to the first become ones, so the run is as long as the leading ones.
  const flip: u64 = set ? 0 : u64.MAX_VALUE;
  let next = first;
  while (true) {
    const word = load<u64>(page + ((next >> 6) << 3)) ^ flip;
    // A word that is all of one kind needs no swapping, for which WebAssembly has no instruction.
    const step = word === u64.MAX_VALUE ? 64 - (next & 63) : <u32>clz<u64>(~(bswap<u64>(word) << (<u64>(next & 63))));
    next += step;
    if (step === 0 || next >= end || (next & 63) !== 0) break;
  }
  const run = min<u64>(length, ((<u64>(min<u32>(next, end) - first)) << unit) - inside);
  if (set) return answer(ctx, MapExtent.Data, data + within, run);
  return answer(ctx, load<u32>(ctx, MapField.Hole), 0, run);
}
