import { type Block, type BlockRequest, Op, Status } from "../core/block.ts";
import type { Later } from "../core/flow.ts";
import type { GuestMemory } from "../core/machine.ts";
import { ThroughBlock } from "../host/filter/through.ts";

/**
 * A disk for a guest whose memory grows. v86's does so whenever it needs room of its own, and that takes every view of it away,
 * those of requests under way included: what an asynchronous store then moves is lost, with or without an error. Such a batch
 * is carried out again, over the memory as it is now; nothing is asked of a synchronous one, and nothing is copied.
 */
export class SteadyBlock extends ThroughBlock {
  readonly #memory: GuestMemory;

  constructor(block: Block, memory: GuestMemory) {
    super(block);
    this.#memory = memory;
  }

  override submit(batch: readonly BlockRequest[]): Later<void> {
    const pending = this.block.submit(batch);
    if (pending) return this.#watch(batch, pending);
  }

  /** Reads and writes may be made twice, as may all that stands with them in a batch: the guest has none of it back yet. */
  async #watch(batch: readonly BlockRequest[], first: Promise<void>): Promise<void> {
    for (let pending: Later<void> = first; pending; pending = this.block.submit(batch)) {
      const thrown = await pending.then(
        () => null,
        (error: unknown) => ({ error }),
      );
      if (!batch.some(isLost)) {
        if (thrown) throw thrown.error;
        return;
      }
      for (const request of batch) {
        if (isLost(request)) request.memory = this.#memory.linear;
        request.status = Status.Pending;
        request.error = null;
      }
    }
  }
}

/** Has its view been taken away? */
function isLost({ op, length, memory }: BlockRequest): boolean {
  return op <= Op.Write && length > 0 && memory.length === 0;
}
