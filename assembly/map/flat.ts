// No metadata at all: a raw file, or a fixed VHD.
import { MapExtent, MapField } from "../spec/map";
import { answer } from "./run";

/** Guest byte n is at Base + n, up to Limit; a guest size past that (a raw file's last, partial sector) is a hole. */
export function flatRun(ctx: usize, offset: u64, left: u64): u32 {
  const position = load<u64>(ctx, MapField.Base) + offset;
  const limit = load<u64>(ctx, MapField.Limit);
  if (position >= limit) return answer(ctx, load<u32>(ctx, MapField.Hole), 0, left);
  return answer(ctx, MapExtent.Data, position, min<u64>(left, limit - position));
}
