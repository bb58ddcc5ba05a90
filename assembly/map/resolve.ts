// The batch: ranges in, extents out.
import { ExtentField, MapEnd, MapExtent, MapField, MapKind, MapLimit, RangeField } from "../spec/map";
import { flatRun } from "./flat";
import { qcow2Run } from "./qcow2";
import { tableRun } from "./table";
import { treeRun } from "./tree";

/**
 * Answers the first `count` ranges, in order, and returns why it stopped (MapEnd). Each range is shortened from its front
 * by what the extents now say, so that calling again goes on where this call stopped.
 */
export function mapResolve(ctx: usize, count: u32): u32 {
  store<u32>(ctx, 0, MapField.ExtentCount);
  let range = ctx + MapField.Ranges;
  for (let index: u32 = 0; index < count; index++, range += RangeField.Size) {
    let offset = bytesOf(load<f64>(range, RangeField.Offset));
    let left = bytesOf(load<f64>(range, RangeField.Length));
    const write = load<u32>(range, RangeField.Write) !== 0;
    while (left !== 0) {
      let stop = runAt(ctx, offset, left, write);
      if (stop === MapEnd.Done && write && load<u32>(ctx, MapField.RunKind) !== MapExtent.Data) {
        store<f64>(ctx, <f64>(<i64>homeless(ctx, offset, left)), MapField.StopLength);
        stop = MapEnd.Allocate;
      }
      const length = load<u64>(ctx, MapField.RunLength);
      if (stop === MapEnd.Done && !emit(ctx, index, length)) stop = MapEnd.Full;
      if (stop !== MapEnd.Done) {
        store<u32>(ctx, index, MapField.StopRange);
        store<f64>(ctx, <f64>(<i64>offset), MapField.StopOffset);
        return stop;
      }
      offset += length;
      left -= length;
      store<f64>(range, <f64>(<i64>offset), RangeField.Offset);
      store<f64>(range, <f64>(<i64>left), RangeField.Length);
    }
  }
  return MapEnd.Done;
}

/** What is at `offset`. For a write, `Data` means that it may be overwritten in place. */
function runAt(ctx: usize, offset: u64, left: u64, write: bool): u32 {
  switch (load<u32>(ctx, MapField.Kind)) {
    case MapKind.Flat:
      return flatRun(ctx, offset, left);
    case MapKind.Table:
      return tableRun(ctx, offset, left);
    case MapKind.Tree:
      return treeRun(ctx, offset, left);
    default:
      return qcow2Run(ctx, offset, left, write);
  }
}

/** How many of the `left` bytes at `offset` have no place, as far as cached metadata tells. */
function homeless(ctx: usize, offset: u64, left: u64): u64 {
  let length: u64 = 0;
  do {
    length += load<u64>(ctx, MapField.RunLength);
  } while (
    length < left &&
    runAt(ctx, offset + length, left - length, true) === MapEnd.Done &&
    load<u32>(ctx, MapField.RunKind) !== MapExtent.Data
  );
  return length;
}

/** Adds the run to the extents, joining one that it continues; false when the list is full. */
function emit(ctx: usize, range: u32, length: u64): bool {
  const kind = load<u32>(ctx, MapField.RunKind);
  const position = <f64>(<i64>load<u64>(ctx, MapField.RunPosition));
  const count = load<u32>(ctx, MapField.ExtentCount);
  const extent = ctx + MapField.Extents + count * ExtentField.Size;
  if (count !== 0) {
    const last = extent - ExtentField.Size;
    const lastLength = load<f64>(last, ExtentField.Length);
    if (
      load<u32>(last, ExtentField.Range) === range &&
      load<u32>(last, ExtentField.Kind) === kind &&
      (kind !== MapExtent.Data || load<f64>(last, ExtentField.Position) + lastLength === position)
    ) {
      store<f64>(last, lastLength + <f64>(<i64>length), ExtentField.Length);
      return true;
    }
    if (count === MapLimit.Extents) return false;
  }
  store<f64>(extent, position, ExtentField.Position);
  store<f64>(extent, <f64>(<i64>length), ExtentField.Length);
  store<u32>(extent, kind, ExtentField.Kind);
  store<u32>(extent, range, ExtentField.Range);
  store<u32>(ctx, count + 1, MapField.ExtentCount);
  return true;
}

function bytesOf(value: f64): u64 {
  return <u64>(<i64>value);
}
