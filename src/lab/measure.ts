import type { Block } from "../core/block.ts";
import type { Flow } from "../core/flow.ts";
import { Burst } from "../guest/workload/burst.ts";
import type { Ledger } from "../guest/workload/ledger.ts";
import { Random } from "../guest/workload/random.ts";
import { WORKLOADS, type WorkloadName } from "../guest/workload/workloads.ts";
import type { ModelName } from "./models.ts";
import type { Pace, Session } from "./session.ts";

/**
 * One workload through one model. Rates count I/O time only, from submit to last completion of every burst, and are the
 * median of several samples.
 */
export interface Measurement {
  model: ModelName;
  workload: WorkloadName;
  /** Bytes. */
  blockSize: number;
  queueDepth: number;
  /** Millions of bytes. */
  mbPerSecond: number;
  iops: number;
  exitsPerRequest: number;
  interruptsPerRequest: number;
  /** Bytes moved on the host for each byte the guest asked for. */
  bytesCopiedPerByte: number;
  /** Every byte read was what was written last: in this run, in the sweep after it, and as another model reads it. */
  verified: boolean;
  requests: number;
  bytes: number;
  /** Seconds of I/O. */
  seconds: number;
}

export interface Cell {
  workload: WorkloadName;
  blockSize: number;
  queueDepth: number;
}

/** One stretch of one workload through one model. */
export interface Sample {
  requests: number;
  bytes: number;
  /** Seconds of I/O. */
  seconds: number;
  exits: number;
  interrupts: number;
  /** Bytes moved on the host. */
  copied: number;
  /** What was wrong first; null when every byte read was right. */
  fault: string | null;
}

/** Share of the time that is not counted: the first requests meet cold code. */
const WARM_UP = 0.15;

/** Runs bursts of one workload for `seconds` of wall clock. */
export function* sample(
  session: Session,
  disk: Block,
  ledger: Ledger,
  cell: Cell,
  options: { seconds: number; seed: number; pace: Pace },
): Flow<Sample> {
  const { machine, layer } = session;
  const { ram, clock } = machine.guest;
  const burst = new Burst({ layer, ram, clock, ledger, ...cell });
  const plan = WORKLOADS[cell.workload](new Random(options.seed));
  const counters = () => ({
    requests: burst.requests,
    bytes: burst.bytes,
    seconds: burst.elapsed / 1000,
    exits: machine.exits.total,
    interrupts: machine.interruptsDelivered,
    copied: disk.copied + session.copied,
  });
  const begun = clock.now();
  const warm = begun + options.seconds * 1000 * WARM_UP;
  const end = begun + options.seconds * 1000;
  let first = counters();
  try {
    for (let now = begun; (now < end || burst.requests === first.requests) && !burst.fault; now = clock.now()) {
      if (now < warm) first = counters();
      plan(burst);
      const pending = burst.run();
      if (pending) yield pending;
      const breath = options.pace.breathe();
      if (breath) yield breath;
    }
  } finally {
    burst.close();
  }
  const last = counters();
  return {
    requests: last.requests - first.requests,
    bytes: last.bytes - first.bytes,
    seconds: last.seconds - first.seconds,
    exits: last.exits - first.exits,
    interrupts: last.interrupts - first.interrupts,
    copied: last.copied - first.copied,
    fault: burst.fault,
  };
}

/** What the samples of one cell say together: the median of their rates, and costs over all of them. */
export function summarize(model: ModelName, cell: Cell, samples: readonly Sample[]): Measurement {
  const sum = (of: keyof Omit<Sample, "fault">) => samples.reduce((total, each) => total + each[of], 0);
  const rates = samples.map((each) => each.requests / each.seconds).sort((a, b) => a - b);
  const iops = rates[Math.floor(rates.length / 2)];
  const requests = sum("requests");
  return {
    model,
    ...cell,
    mbPerSecond: (iops * cell.blockSize) / 1e6,
    iops,
    exitsPerRequest: sum("exits") / requests,
    interruptsPerRequest: sum("interrupts") / requests,
    bytesCopiedPerByte: sum("copied") / sum("bytes"),
    verified: samples.every(({ fault }) => fault === null),
    requests,
    bytes: sum("bytes"),
    seconds: sum("seconds"),
  };
}
