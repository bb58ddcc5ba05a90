import type { Measurement } from "../src/lab/index.ts";
import type { Result } from "./harness.ts";

export interface CoreResult {
  name: string;
  unit: string;
  /** WASM first. */
  results: Result[];
}

/** Columns padded to their widest cell; the first to the left, figures to the right. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join("  "),
  );
  lines.splice(1, 0, widths.map((width) => "─".repeat(width)).join("  "));
  return lines.join("\n");
}

/** What the WASM core takes, how much faster than the TypeScript twin that is, and which share of C's speed. */
export function coreTable(cores: readonly CoreResult[]): string {
  const rows = cores.map(({ name, unit, results }) => {
    const [wasm, twin, native] = results;
    return [
      name,
      unit,
      wasm.nsPerOperation.toFixed(1),
      twin.nsPerOperation.toFixed(1),
      native?.nsPerOperation.toFixed(1) ?? "no gcc",
      `${twin.ratio.toFixed(2)}×`,
      native ? `${(native.ratio * 100).toFixed(0)} %` : "–",
    ];
  });
  const head = [
    "nanoseconds, best of the rounds",
    "per",
    "WASM",
    "TypeScript",
    "C -O2",
    "WASM against TS",
    "share of C",
  ];
  return table([head, ...rows]);
}

/** The models by kind of work, each against the driver on the bare device. */
export function modelTable(measurements: readonly Measurement[]): string {
  const kinds = [...new Set(measurements.map(kindOf))];
  const rows = kinds.flatMap((kind) => {
    const same = measurements.filter((measurement) => kindOf(measurement) === kind);
    const bare = same.find(({ model }) => model === "bare")!;
    return same.map((measurement) => [
      kind,
      measurement.model,
      measurement.mbPerSecond.toFixed(0),
      measurement.iops.toFixed(0),
      `${(measurement.iops / bare.iops).toFixed(2)}×`,
      measurement.exitsPerRequest.toFixed(2),
    ]);
  });
  return table([["random reads", "model", "MB/s", "IOPS", "of bare", "exits a request"], ...rows]);
}

function kindOf({ blockSize, queueDepth }: Measurement): string {
  return `${blockSize / 1024} KiB, depth ${queueDepth}`;
}
