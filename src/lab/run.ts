import type { Block } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import type { Flow } from "../core/flow.ts";
import type { Ledger } from "../guest/workload/ledger.ts";
import { flush, sweep } from "../guest/workload/sweep.ts";
import { CODE, type CodeSize } from "./code.ts";
import { type Cell, type Measurement, measure } from "./measure.ts";
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

/** Share of a measurement's time. */
const PRACTICE = 0.3;

class Lab {
  readonly #disk: Block;
  readonly #plan: Plan;
  readonly #options: RunOptions;
  readonly #pace: Pace;
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
    for (const [i, model] of models.entries()) {
      const session = await this.#open(model);
      try {
        await this.#work(session, ledgers[i]);
        if (i > 0) await this.#crossRead(session, models[i - 1], ledgers[i - 1]);
      } catch (thrown) {
        await session.close().catch(() => {});
        throw thrown;
      }
      await session.close();
      this.#step(model, "one read, traced");
      paths.push(await tracePath(model, this.#disk, ledgers[i].region.offset, this.#pace, this.#options.store));
    }
    // The last region is read by the first model; one alone reads its own, through a machine started afresh.
    const last = models.length - 1;
    const session = await this.#open(models[0]);
    try {
      await this.#crossRead(session, models[last], ledgers[last]);
    } finally {
      await session.close();
    }
    const faulty = new Set(this.#faults.map(({ model }) => model));
    for (const measurement of this.#measurements) measurement.verified &&= !faulty.has(measurement.model);
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

  /** Everything one model does in its own region. */
  async #work(session: Session, ledger: Ledger): Promise<void> {
    const { model, layer, machine } = session;
    const { ram } = machine.guest;
    const { seconds, seed } = this.#plan;
    await this.#judge(model, "laying its region down", sweep(layer, ram, ledger, "write"));
    const run = async (cell: Cell, time: number) => {
      const doing = `${cell.workload}, ${cell.queueDepth} × ${cell.blockSize} bytes`;
      this.#step(model, doing);
      const pace = this.#pace;
      const { measurement, fault } = await pace.run(
        measure(session, this.#disk, ledger, cell, { seconds: time, seed, pace }),
        `${model}: ${doing}`,
      );
      if (fault) this.#fault(model, doing, fault);
      return measurement;
    };
    // The first workload of a model meets code that no compiler has seen yet: once for practice.
    await run(this.#cells[0], seconds * PRACTICE);
    for (const cell of this.#cells) this.#measurements.push(await run(cell, seconds));
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
    return Session.open(model, this.#disk, { memory, pace: this.#pace });
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
    const each = this.#cells.length + 7;
    this.#options.onProgress?.({ model, doing, done: this.#done++, of: each * this.#plan.models.length });
  }
}
