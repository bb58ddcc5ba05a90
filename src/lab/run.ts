import type { Block } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import type { Flow } from "../core/flow.ts";
import type { Ledger } from "../guest/workload/ledger.ts";
import { flush, sweep } from "../guest/workload/sweep.ts";
import { Hypervisor } from "../hypervisor/hypervisor.ts";
import { CODE, type CodeSize } from "./code.ts";
import { type Cell, type Measurement, type Sample, sample, summarize } from "./measure.ts";
import type { ModelName } from "./models.ts";
import type { ObservedStore } from "./observe.ts";
import { type Path, tracePath } from "./path.ts";
import { type LabOptions, ledgerOf, type Plan, planLab, regions, SEALED } from "./plan.ts";
import { Pace, Session } from "./session.ts";

export interface RunOptions extends LabOptions {
  /** The store under the disk, to see the host's side of each step. */
  store?: ObservedStore;
  signal?: AbortSignal;
  /** Milliseconds a request may take before the lab gives up; default 10,000. */
  patience?: number;
  onProgress?: (progress: Progress) => void;
}

export interface Progress {
  model: ModelName;
  doing: string;
  /** Steps done, of how many. */
  done: number;
  of: number;
}

/** Something that was not as it must be. */
export interface Fault {
  model: ModelName;
  doing: string;
  what: string;
}

export interface LabResult {
  seed: number;
  disk: { size: number };
  models: Measurement[];
  /** How one read of 4 KiB goes through each model. */
  paths: Path[];
  code: CodeSize;
  faults: Fault[];
  /** Every byte through every model was right. */
  verified: boolean;
}

/**
 * Runs the same workloads on one disk through each model, checking every byte read. Each model works on a region of its
 * own, which it seals at the end with content that depends on the seed alone (`expectedBytes`); another model reads that
 * back. The disk stays open.
 * @throws ParavaneError INVALID, READ_ONLY, ABORTED, IO (no answer), and what the host's store failed with
 */
export async function runLab(disk: Block, options: RunOptions = {}): Promise<LabResult> {
  const plan = planLab(options, disk.size);
  if (disk.readOnly) throw new ParavaneError("READ_ONLY", "the lab writes, and the disk is open read-only");
  return new Lab(disk, plan, options).run();
}

/** Turns each model gets at each workload. */
const TURNS = 3;
/** Share of a measurement's time that the first workload is practised for. */
const PRACTICE = 0.3;

class Lab {
  readonly #disk: Block;
  readonly #plan: Plan;
  readonly #options: RunOptions;
  readonly #pace: Pace;
  readonly #hypervisor = new Hypervisor();
  readonly #cells: Cell[];
  readonly #measurements: Measurement[] = [];
  readonly #faults: Fault[] = [];
  #done = 0;

  constructor(disk: Block, plan: Plan, options: RunOptions) {
    this.#disk = disk;
    this.#plan = plan;
    this.#options = options;
    this.#pace = new Pace({ signal: options.signal, patience: options.patience ?? 10_000 });
    this.#cells = plan.workloads.flatMap((workload) =>
      plan.blockSizes.flatMap((blockSize) =>
        plan.queueDepths.map((queueDepth) => ({ workload, blockSize, queueDepth })),
      ),
    );
  }

  async run(): Promise<LabResult> {
    const { models, seed } = this.#plan;
    const ledgers = regions(this.#disk.size, models).map((region) => ledgerOf(region, seed));
    const paths: Path[] = [];
    const sessions: Session[] = [];
    try {
      for (const model of models) sessions.push(await this.#open(model));
      for (const [i, session] of sessions.entries()) await this.#settle(session, ledgers[i]);
      for (const cell of this.#cells) await this.#compare(sessions, ledgers, cell);
      for (const [i, session] of sessions.entries()) await this.#seal(session, ledgers[i]);
      // Another model reads each region back; one alone reads its own, through a machine started afresh.
      if (models.length === 1) sessions.push(await this.#open(models[0]));
      for (const [i, model] of models.entries()) {
        await this.#crossRead(sessions[(i + 1) % sessions.length], model, ledgers[i]);
      }
    } catch (thrown) {
      for (const session of sessions) await session.close().catch(() => {});
      throw thrown;
    }
    for (const session of sessions) await session.close();
    for (const [i, model] of models.entries()) {
      this.#step(model, "one read, traced");
      paths.push(await tracePath(model, this.#disk, ledgers[i].region.offset, this.#pace, this.#options.store));
    }
    const faulty = new Set(this.#faults.map(({ model }) => model));
    for (const measurement of this.#measurements) measurement.verified &&= !faulty.has(measurement.model);
    this.#measurements.sort((a, b) => models.indexOf(a.model) - models.indexOf(b.model));
    return {
      seed,
      disk: { size: this.#disk.size },
      models: this.#measurements,
      paths,
      code: CODE,
      faults: this.#faults,
      verified: this.#faults.length === 0,
    };
  }

  /** A model's region gets its first content, and the first workload is run for practice: nothing is compiled yet. */
  async #settle(session: Session, ledger: Ledger): Promise<void> {
    const { model, layer, machine } = session;
    await this.#judge(model, "laying its region down", sweep(layer, machine.guest.ram, ledger, "write"));
    await this.#sample(session, ledger, this.#cells[0], this.#plan.seconds * PRACTICE);
  }

  /** One workload through every model: in turns, so that a host whose speed drifts slows all of them alike. */
  async #compare(sessions: readonly Session[], ledgers: readonly Ledger[], cell: Cell): Promise<void> {
    const samples: Sample[][] = sessions.map(() => []);
    for (let turn = 0; turn < TURNS; turn++) {
      for (const [i, session] of sessions.entries()) {
        samples[i].push(await this.#sample(session, ledgers[i], cell, this.#plan.seconds / TURNS));
      }
    }
    for (const [i, { model }] of sessions.entries()) this.#measurements.push(summarize(model, cell, samples[i]));
  }

  async #sample(session: Session, ledger: Ledger, cell: Cell, seconds: number): Promise<Sample> {
    const { model } = session;
    const doing = `${cell.workload}, ${cell.queueDepth} × ${cell.blockSize} bytes`;
    this.#step(model, doing);
    const options = { seconds, seed: this.#plan.seed, pace: this.#pace };
    const result = await this.#pace.run(sample(session, this.#disk, ledger, cell, options), `${model}: ${doing}`);
    if (result.fault) this.#fault(model, doing, result.fault);
    return result;
  }

  /** Every byte of the region as the workloads left it, then its final content, durable. */
  async #seal(session: Session, ledger: Ledger): Promise<void> {
    const { model, layer, machine } = session;
    const { ram } = machine.guest;
    await this.#judge(model, "reading its region back", sweep(layer, ram, ledger, "read"));
    await this.#judge(model, "sealing its region", sweep(layer, ram, ledger, "write", SEALED));
    await this.#judge(model, "making it durable", flush(layer));
  }

  async #crossRead(session: Session, of: ModelName, ledger: Ledger): Promise<void> {
    const { layer, machine, model } = session;
    await this.#judge(of, `its region as ${model} reads it`, sweep(layer, machine.guest.ram, ledger, "read"));
  }

  #open(model: ModelName): Promise<Session> {
    const { blockSizes, queueDepths } = this.#plan;
    // Room for a burst's buffers and as much again for the drivers.
    const memory = (16 << 20) + 2 * Math.max(...blockSizes) * Math.max(...queueDepths);
    return Session.open(model, this.#disk, { hypervisor: this.#hypervisor, memory, pace: this.#pace });
  }

  async #judge(model: ModelName, doing: string, flow: Flow<string | null>): Promise<void> {
    this.#step(model, doing);
    const wrong = await this.#pace.run(flow, `${model}: ${doing}`);
    if (wrong) this.#fault(model, doing, wrong);
  }

  /** The host's own failure is no verdict on a model: that ends the run. */
  #fault(model: ModelName, doing: string, what: string): void {
    const failure = this.#options.store?.failure;
    if (failure) throw failure;
    this.#faults.push({ model, doing, what });
  }

  #step(model: ModelName, doing: string): void {
    this.#pace.check();
    const each = this.#cells.length * TURNS + 7;
    this.#options.onProgress?.({ model, doing, done: this.#done++, of: each * this.#plan.models.length });
  }
}
