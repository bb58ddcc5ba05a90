// What every kind of map says of one run of guest bytes: where it is, or why that cannot be said.
import { EntryField, MapEnd, MapField } from "../spec/map";

/** The run is `length` bytes of MapExtent `kind`, at `position` when that is Data. */
export function answer(ctx: usize, kind: u32, position: u64, length: u64): u32 {
  store<u32>(ctx, kind, MapField.RunKind);
  store<u64>(ctx, position, MapField.RunPosition);
  store<u64>(ctx, length, MapField.RunLength);
  return MapEnd.Done;
}

/** The answer needs page `key` of level `level`, kept at `position` in the store. */
export function miss(ctx: usize, level: u32, key: u32, position: u64): u32 {
  store<u32>(ctx, key * 2 + level, MapField.StopKey);
  store<f64>(ctx, <f64>position, MapField.StopPosition);
  return MapEnd.Miss;
}

/** An entry points at `position`, where nothing of the kind can be. */
export function corrupt(ctx: usize, position: u64): u32 {
  store<f64>(ctx, <f64>position, MapField.StopPosition);
  return MapEnd.Corrupt;
}

/** May an entry point at store bytes [start, end)? Not outside the data area, nor into the table it comes from. */
export function placed(ctx: usize, start: u64, end: u64): bool {
  return (
    start >= load<u64>(ctx, MapField.Base) &&
    end <= load<u64>(ctx, MapField.Limit) &&
    (end <= load<u64>(ctx, MapField.TableStart) || start >= load<u64>(ctx, MapField.TableEnd))
  );
}

/** The table entry at `at`, flags masked off. */
export function readEntry(format: usize, at: usize): u64 {
  const swap = load<u32>(format, EntryField.BigEndian) !== 0;
  let value: u64;
  if (load<u32>(format, EntryField.Shift) === 2) {
    const raw = load<u32>(at);
    value = swap ? bswap<u32>(raw) : raw;
  } else {
    const raw = load<u64>(at);
    value = swap ? bswap<u64>(raw) : raw;
  }
  return value & load<u64>(format, EntryField.Mask);
}
