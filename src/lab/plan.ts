import { ParavaneError } from "../core/error.ts";
import { Ledger, type Region } from "../guest/workload/ledger.ts";
import { Pattern, SECTOR } from "../guest/workload/pattern.ts";
import { WORKLOADS, type WorkloadName } from "../guest/workload/workloads.ts";
import { MODELS, type ModelName } from "./models.ts";

export interface LabOptions {
  /** Default: all five, from bare metal to virtio. */
  models?: readonly ModelName[];
  /** Default: all four. */
  workloads?: readonly WorkloadName[];
  /** Bytes of a request; default 4096. */
  blockSizes?: readonly number[];
  /** Requests submitted together; default 1 and 32. */
  queueDepths?: readonly number[];
  /** Wall clock of each measurement; default 1. */
  seconds?: number;
  /** Decides every byte written and every request made; default 1. */
  seed?: number;
}

export type Plan = Required<LabOptions>;

/** Bytes each model works on, where the disk has room for as much. */
const REGION = 16 << 20;
/** Regions start and end on multiples of this. */
const GRAIN = 64 << 10;
/** The generation that sealing writes, which no workload reaches. */
export const SEALED = 0xffffffff;

/** Fills in the defaults. @throws ParavaneError INVALID when it cannot be done on a disk of `size` bytes */
export function planLab(options: LabOptions, size: number): Plan {
  const plan: Plan = {
    models: options.models ?? (Object.keys(MODELS) as ModelName[]),
    workloads: options.workloads ?? (Object.keys(WORKLOADS) as WorkloadName[]),
    blockSizes: options.blockSizes ?? [4096],
    queueDepths: options.queueDepths ?? [1, 32],
    seconds: options.seconds ?? 1,
    seed: options.seed ?? 1,
  };
  known("model", plan.models, Object.keys(MODELS));
  known("workload", plan.workloads, Object.keys(WORKLOADS));
  if (!(plan.seconds > 0)) throw invalid(`a measurement cannot last ${plan.seconds} seconds`, "Give a positive number");
  if (!Number.isInteger(plan.seed) || plan.seed < 0 || plan.seed > 0xffffffff) {
    throw invalid(`the seed ${plan.seed} is not a whole number of 32 bits`, "Give one from 0 to 4294967295");
  }
  for (const depth of numbers("queue depth", plan.queueDepths)) {
    if (depth > 1024) throw invalid(`a queue depth of ${depth} is more than 1024`, "Give fewer requests");
  }
  for (const bytes of numbers("block size", plan.blockSizes)) {
    if (bytes % SECTOR !== 0) throw invalid(`a block size of ${bytes} is not whole sectors`, "Give a multiple of 512");
  }
  const [region] = regions(size, plan.models);
  const most = Math.max(...plan.blockSizes) * Math.max(...plan.queueDepths);
  if (region.length === 0 || most > region.length) {
    const needs = Math.ceil(Math.max(most, GRAIN) / GRAIN) * GRAIN * plan.models.length;
    throw invalid(
      most > REGION
        ? `a queue of ${most} bytes is more than the ${REGION} that each model works on`
        : `a disk of ${size} bytes is too small for this run`,
      most > REGION ? "Use a smaller block size or queue depth" : `It takes at least ${needs} bytes`,
    );
  }
  return plan;
}

function known(what: string, given: readonly string[], all: string[]): void {
  if (given.length === 0) throw invalid(`no ${what} is given`, `Known: ${all.join(", ")}`);
  for (const [i, name] of given.entries()) {
    if (!all.includes(name)) throw invalid(`there is no ${what} "${name}"`, `Known: ${all.join(", ")}`);
    if (given.indexOf(name) !== i) throw invalid(`the ${what} "${name}" is given twice`, "Name each once");
  }
}

function numbers(what: string, given: readonly number[]): readonly number[] {
  if (given.length === 0) throw invalid(`no ${what} is given`, "Give at least one");
  for (const n of given) {
    if (!Number.isInteger(n) || n <= 0) throw invalid(`a ${what} cannot be ${n}`, "Give a positive whole number");
  }
  return given;
}

function invalid(message: string, hint: string): ParavaneError {
  return new ParavaneError("INVALID", message, {}, { hint });
}

/** Where each model works: as many equal regions as there are models, spread over the whole disk. */
export function regions(size: number, models: readonly ModelName[]): Region[] {
  const stride = Math.floor(size / models.length / GRAIN) * GRAIN;
  return models.map((_, i) => ({ offset: i * stride, length: Math.min(REGION, stride) }));
}

/** A region's ledger. Its content depends on the seed and the place alone, not on the model. */
export function ledgerOf(region: Region, seed: number): Ledger {
  return new Ledger(region, seed);
}

/**
 * The bytes [offset, offset + length), a multiple of 512 each, that a finished run leaves on a disk that was empty: a
 * function of its arguments alone, however many requests were timed. Outside the models' regions the disk is untouched.
 */
export function expectedBytes(
  run: { seed: number; size: number; models: readonly ModelName[] },
  offset: number,
  length: number,
): Uint8Array {
  const words = new Uint32Array(length / 4);
  const pattern = new Pattern(run.seed);
  for (const region of regions(run.size, run.models)) {
    const from = Math.max(offset, region.offset);
    const to = Math.min(offset + length, region.offset + region.length);
    for (let at = from; at < to; at += SECTOR) pattern.fill(words, (at - offset) / 4, at / SECTOR, SEALED);
  }
  return new Uint8Array(words.buffer);
}
