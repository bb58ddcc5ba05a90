import { type Block, type BlockRequest, Op } from "../../src/core/block.ts";
import type { Later } from "../../src/core/flow.ts";
import { SegmentList } from "../../src/core/segments.ts";
import type { Store } from "../../src/core/store.ts";

/** Sectors that were written or zeroed, and not discarded since, of the disk in each store. */
const touched = new WeakMap<Store, Set<number>>();

/**
 * A disk that reads as noise where nobody wrote, as if it read as zeros there: what the suites expect. What was written passes
 * through untouched. `key` is the store that the disk is kept in.
 */
export function blank<T extends Block>(disk: T, key: Store): T {
  const known = touched.get(key) ?? new Set<number>();
  touched.set(key, known);
  const unit = disk.sectorSize;
  const submit = disk.submit.bind(disk);
  disk.submit = (batch: readonly BlockRequest[]): Later<void> => {
    const noise = batch.map(({ op, offset, length }) => {
      const runs: { from: number; length: number }[] = [];
      for (let at = offset; at < Math.min(offset + length, disk.size); at += unit) {
        // What a cipher makes of bytes that were given back is noise again.
        if (op === Op.Discard) known.delete(at);
        else if (op !== Op.Read) known.add(at);
        else if (!known.has(at)) {
          const last = runs[runs.length - 1];
          if (last && last.from + last.length === at - offset) last.length += unit;
          else runs.push({ from: at - offset, length: unit });
        }
      }
      return runs;
    });
    const veil = () => {
      for (const [i, request] of batch.entries()) {
        for (const { from, length } of noise[i]) {
          const segments = new SegmentList();
          segments.pushSlice(request.segments, from, length);
          for (let run = 0; run < segments.count; run++) {
            request.memory.fill(0, segments.start(run), segments.start(run) + segments.length(run));
          }
        }
      }
    };
    const pending = submit(batch);
    if (pending) return pending.then(veil);
    veil();
  };
  return disk;
}
