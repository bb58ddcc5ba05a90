// Two levels (qcow2's L1 and L2 tables, VMDK's grain directory and grain tables): a top entry points at a leaf table, a
// leaf entry at a cluster of data.
//
//   top [ t0 | t1 | … ]   t1 ──► leaf table [ e0 | e1 | e2 … ]   e2 ──► cluster
import { CacheField, EntryField, MapEnd, MapExtent, MapField } from "../spec/map";
import { cachedPage } from "./cache";
import { answer, corrupt, miss, placed, readEntry } from "./run";
import { topEntry } from "./table";

export function treeRun(ctx: usize, offset: u64, left: u64): u32 {
  const top = ctx + MapField.Top;
  const spanShift = <u64>load<u32>(ctx, MapField.SpanShift);
  const index = <u32>(offset >> spanShift);
  const withinSpan = offset & (((<u64>1) << spanShift) - 1);
  const at = topEntry(ctx, index);
  if (at === 0) return MapEnd.Miss;
  const table = readEntry(top, at);
  if (table === load<u64>(top, EntryField.Absent)) {
    return answer(ctx, load<u32>(ctx, MapField.Hole), 0, min<u64>(left, ((<u64>1) << spanShift) - withinSpan));
  }
  const tableStart = table * load<u64>(top, EntryField.Unit);
  const leafShift = load<u32>(ctx, MapField.LeafShift);
  if (!placed(ctx, tableStart, tableStart + ((<u64>1) << (<u64>leafShift)))) return corrupt(ctx, tableStart);

  const leaf = ctx + MapField.Leaf;
  const blockShift = <u64>load<u32>(ctx, MapField.BlockShift);
  const block = (<u64>1) << blockShift;
  const within = offset & (block - 1);
  const length = min<u64>(left, block - within);
  const byte = (withinSpan >> blockShift) << (<u64>load<u32>(leaf, EntryField.Shift));
  const pageShift = <u64>load<u32>(ctx + MapField.LeafCache, CacheField.PageShift);
  const key = (index << (leafShift - <u32>pageShift)) + <u32>(byte >> pageShift);
  const page = cachedPage(ctx + MapField.LeafCache, key);
  if (page === 0) return miss(ctx, 1, key, tableStart + ((byte >> pageShift) << pageShift));

  const value = readEntry(leaf, page + <usize>(byte & (((<u64>1) << pageShift) - 1)));
  if (value === load<u64>(leaf, EntryField.Absent)) return answer(ctx, load<u32>(ctx, MapField.Hole), 0, length);
  if (value === load<u64>(leaf, EntryField.Zero)) return answer(ctx, MapExtent.Zero, 0, length);
  const start = value * load<u64>(leaf, EntryField.Unit);
  const data = start + load<u64>(leaf, EntryField.Data);
  if (!placed(ctx, start, data + block)) return corrupt(ctx, start);
  return answer(ctx, MapExtent.Data, data + within, length);
}
