import { type BlockRequest, Op, Status } from "../../../../core/block.ts";
import type { Later } from "../../../../core/flow.ts";
import type { DriveConfig, ErrorPolicy } from "./options.ts";

/** How often `retry` tries again. */
const RETRIES = 3;

type Done = (status: Status, lba: number) => void;

/** What a drive asks its block, under its error policies. One batch at a time: a drive carries out one command. */
export class MediaAccess {
  readonly #config: DriveConfig;
  #waiting: { batch: readonly BlockRequest[]; done: Done; failed: BlockRequest } | null = null;

  constructor(config: DriveConfig) {
    this.#config = config;
  }

  /** `done` gets the first status that is not Ok, and the sector that failed when the block has named it, else -1. */
  submit(batch: readonly BlockRequest[], done: Done, tries = 0): void {
    for (const request of batch) {
      request.status = Status.Pending;
      request.error = null;
    }
    let later: Later<void>;
    try {
      later = this.#config.block.submit(batch);
    } catch {
      // The block has been closed under us: its requests stay pending, which counts as lost below.
      later = undefined;
    }
    if (later) {
      const ended = () => this.#ended(batch, done, tries);
      later.then(ended, ended);
    } else this.#ended(batch, done, tries);
  }

  get stopped(): boolean {
    return this.#waiting !== null;
  }

  /** Tries again what was stopped. */
  resume(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting) this.submit(waiting.batch, waiting.done);
  }

  /** A reset: what was stopped ends as it failed. */
  cancel(): void {
    const waiting = this.#waiting;
    this.#waiting = null;
    if (waiting) this.#report(waiting.failed, waiting.done);
  }

  #ended(batch: readonly BlockRequest[], done: Done, tries: number): void {
    let failed: BlockRequest | undefined;
    for (const request of batch) if (request.status !== Status.Ok) failed ??= request;
    if (!failed) {
      done(Status.Ok, -1);
      return;
    }
    switch (this.#policy(failed)) {
      case "ignore":
        done(Status.Ok, -1);
        return;
      case "retry":
        if (tries < RETRIES) this.submit(batch, done, tries + 1);
        else this.#report(failed, done);
        return;
      case "stop":
        this.#waiting = { batch, done, failed };
        return;
      default:
        this.#report(failed, done);
    }
  }

  /** What can never go well is reported, whatever the policy. */
  #policy({ op, status }: BlockRequest): ErrorPolicy {
    if (status === Status.ReadOnly || status === Status.Unsupported || status === Status.OutOfRange) return "report";
    return op === Op.Read ? this.#config.onRead : this.#config.onWrite;
  }

  #report(failed: BlockRequest, done: Done): void {
    // Still pending: the block was closed, or broke its contract.
    const status = failed.status === Status.Pending ? Status.Io : failed.status;
    done(status, failedSector(failed, this.#config.sectorBytes));
  }
}

/** The sector a failure names, when it names one inside the request; else -1. */
function failedSector({ error, offset, length }: BlockRequest, sectorBytes: number): number {
  const at = error?.context.file === undefined ? error?.context.offset : undefined;
  return at !== undefined && at >= offset && at < offset + length ? Math.floor(at / sectorBytes) : -1;
}
