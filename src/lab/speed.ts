import type { Measurement } from "./measure.ts";
import type { ModelName } from "./models.ts";

/** One kind of work, and how fast each model does it. */
export interface Comparison {
  workload: string;
  blockSize: number;
  queueDepth: number;
  /** Requests a second, by model. */
  iops: Partial<Record<ModelName, number>>;
}

/** The measurements, work by work. */
export function compare(measurements: readonly Measurement[]): Comparison[] {
  const found = new Map<string, Comparison>();
  for (const { model, workload, blockSize, queueDepth, iops } of measurements) {
    const key = `${workload} ${blockSize} ${queueDepth}`;
    let row = found.get(key);
    if (!row) found.set(key, (row = { workload, blockSize, queueDepth, iops: {} }));
    row.iops[model] = iops;
  }
  return [...found.values()];
}

/** Geometric mean of how many times as fast `a` is as `b`; NaN when they never did the same work. */
export function speedRatio(comparisons: readonly Comparison[], a: ModelName, b: ModelName): number {
  const ratios = comparisons.flatMap(({ iops }) => (iops[a] && iops[b] ? [iops[a] / iops[b]] : []));
  return Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
}
