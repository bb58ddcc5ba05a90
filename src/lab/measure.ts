import type { Block } from "../core/block.ts";
import type { Flow } from "../core/flow.ts";
import { Burst } from "../guest/workload/burst.ts";
import type { Ledger } from "../guest/workload/ledger.ts";
import { Random } from "../guest/workload/random.ts";
import { WORKLOADS, type WorkloadName } from "../guest/workload/workloads.ts";
import type { ModelName } from "./models.ts";
import type { Pace, Session } from "./session.ts";

/** One workload through one model. Rates count I/O time only: from submit to last completion of every burst. */
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

/** Share of the time that is not counted: the first requests meet cold code. */
const WARM_UP = 0.15;

/** Runs bursts of one workload for `seconds` of wall clock. `fault` is null when every byte read was right. */
export function* measure(
  session: Session,
  disk: Block,
  ledger: Ledger,
  cell: Cell,
  options: { seconds: number; seed: number; pace: Pace },
): Flow<{ measurement: Measurement; fault: string | null }> {
  const { machine, layer, model } = session;
  const { ram, clock } = machine.guest;
  const burst = new Burst({ layer, ram, clock, ledger, ...cell });
  const plan = WORKLOADS[cell.workload](new Random(options.seed));
  const counters = () => ({
    requests: burst.requests,
    bytes: burst.bytes,
    elapsed: burst.elapsed,
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
  const requests = last.requests - first.requests;
  const bytes = last.bytes - first.bytes;
  const seconds = (last.elapsed - first.elapsed) / 1000;
  const measurement = {
    model,
    ...cell,
    mbPerSecond: bytes / seconds / 1e6,
    iops: requests / seconds,
    exitsPerRequest: (last.exits - first.exits) / requests,
    interruptsPerRequest: (last.interrupts - first.interrupts) / requests,
    bytesCopiedPerByte: (last.copied - first.copied) / bytes,
    verified: burst.fault === null,
    requests,
    bytes,
    seconds,
  };
  return { measurement, fault: burst.fault };
}
