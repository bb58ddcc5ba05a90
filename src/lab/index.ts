/**
 * The lab: one disk through every I/O model, each byte checked, each cost counted. Runs in Node and in browsers.
 *
 * ```js
 * const disk = await createDisk(new MemoryStore(), { format: "vhd", size: 64 << 20 });
 * const result = await runLab(disk, { models: ["ide-dma", "virtio"], seconds: 0.2 });
 * console.log(textReport(result));
 * ```
 */
export type { WorkloadName } from "../guest/workload/workloads.ts";
export type { CodeFile, CodeSize } from "./code.ts";
export { htmlReport } from "./html.ts";
export type { Measurement } from "./measure.ts";
export { MODELS, type ModelName } from "./models.ts";
export { ObservedStore } from "./observe.ts";
export type { Layer, Path, Step, StepKind } from "./path.ts";
export { expectedBytes, type LabOptions } from "./plan.ts";
export { textReport } from "./report.ts";
export { type Fault, type LabResult, type Progress, type RunOptions, runLab } from "./run.ts";
