import { type Block, type BlockRequest, Op, Status } from "../../core/block.ts";
import { type AsyncCloseable, disposable } from "../../core/dispose.ts";
import { type ErrorCode, ParavaneError } from "../../core/error.ts";
import type { Later } from "../../core/flow.ts";

/**
 * Why a request is made to fail: a bad sector, a full host, a host that fails for reasons of its own, and so on. `crc` is damage
 * on the way between device and host: it befalls reads and writes alone, and not those that have no CRC on the way, which IDE's
 * are that are not by Ultra DMA. Such a filter belongs right under the device.
 */
export type FaultCause = "media" | "no-space" | "read-only" | "unsupported" | "out-of-range" | "io" | "crc";

/** Requests that are to fail. */
export interface FaultRule {
  cause: FaultCause;
  /** Only these operations; all when absent. */
  ops?: readonly Op[];
  /** Only requests that touch bytes [from, to) of the disk, so no flush; all when both are absent. */
  from?: number;
  to?: number;
  /** Matching requests that pass first; default 0. */
  after?: number;
  /** Of those that come then, only each such one fails, beginning with the first; default 1: all. */
  every?: number;
  /** Requests that fail, after which the rule is used up; default no end. */
  times?: number;
}

/** A block whose requests can be made to fail. */
export interface FaultyBlock extends Block, AsyncCloseable {
  /** Requests failed so far. */
  readonly failed: number;
  /** Adds a rule; returns what takes it away. Rules are asked in the order in which they came. */
  fail(rule: FaultRule): () => void;
}

const CAUSES: Record<FaultCause, [Status, ErrorCode]> = {
  media: [Status.Media, "MEDIA"],
  "no-space": [Status.NoSpace, "NO_SPACE"],
  "read-only": [Status.ReadOnly, "READ_ONLY"],
  unsupported: [Status.Unsupported, "UNSUPPORTED"],
  "out-of-range": [Status.OutOfRange, "OUT_OF_RANGE"],
  io: [Status.Io, "IO"],
  crc: [Status.Crc, "CRC"],
};

interface Active extends FaultRule {
  seen: number;
  failed: number;
}

class Faults implements FaultyBlock {
  declare readonly [Symbol.asyncDispose]: () => Promise<void>;
  readonly size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  failed = 0;
  readonly #block: Block;
  readonly #rules = new Set<Active>();

  constructor(block: Block) {
    this.#block = block;
    this.size = block.size;
    this.sectorSize = block.sectorSize;
    this.readOnly = block.readOnly;
  }

  get copied(): number {
    return this.#block.copied;
  }

  fail(rule: FaultRule): () => void {
    const active = { ...rule, seen: 0, failed: 0 };
    this.#rules.add(active);
    return () => this.#rules.delete(active);
  }

  submit(batch: readonly BlockRequest[]): Later<void> {
    if (this.#rules.size === 0) return this.#block.submit(batch);
    // What is to fail moves nothing; the rest goes on as one batch.
    const rest = batch.filter((request) => !this.#fails(request));
    return rest.length > 0 || batch.length === 0 ? this.#block.submit(rest) : undefined;
  }

  close(): Later<void> {
    return this.#block.close();
  }

  #fails(request: BlockRequest): boolean {
    for (const rule of this.#rules) {
      if (!matches(rule, request)) continue;
      const turn = rule.seen++ - (rule.after ?? 0);
      if (turn < 0 || turn % (rule.every ?? 1) !== 0) continue;
      const left = (rule.times ?? Number.POSITIVE_INFINITY) - rule.failed;
      if (left <= 1) this.#rules.delete(rule);
      if (left < 1) continue;
      rule.failed++;
      const [status, code] = CAUSES[rule.cause];
      request.status = status;
      request.error = new ParavaneError(code, `a fault rule fails this request (${rule.cause})`, {
        offset: Math.max(request.offset, rule.from ?? 0),
        length: request.length,
      });
      this.failed++;
      return true;
    }
    return false;
  }
}

disposable(Faults.prototype);

function matches({ cause, ops, from, to }: FaultRule, request: BlockRequest): boolean {
  if (cause === "crc" && (request.unchecked || request.op > Op.Write)) return false;
  if (ops && !ops.includes(request.op)) return false;
  if (from === undefined && to === undefined) return true;
  const { offset, length } = request;
  return length > 0 && offset < (to ?? Number.POSITIVE_INFINITY) && offset + length > (from ?? 0);
}

/**
 * `block` with faults on demand: for tests of whatever is above, and for trying how a guest takes a failing disk. Closing it
 * closes `block`.
 */
export function withFaults(block: Block, ...rules: readonly FaultRule[]): FaultyBlock {
  const faulty = new Faults(block);
  for (const rule of rules) faulty.fail(rule);
  return faulty;
}
