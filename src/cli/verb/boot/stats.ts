import { type BlockRequest, Op } from "../../../core/block.ts";
import type { Later } from "../../../core/flow.ts";
import { ThroughBlock } from "../../../host/filter/through.ts";

/** A block that counts what is asked of it. */
export class Counted extends ThroughBlock {
  readonly requests = [0, 0, 0, 0, 0];
  readonly bytes = [0, 0, 0, 0, 0];

  override submit(batch: readonly BlockRequest[]): Later<void> {
    for (const { op, length } of batch) {
      this.requests[op]++;
      this.bytes[op] += length;
    }
    return super.submit(batch);
  }

  /** One line for a person. */
  describe(name: string): string {
    const part = (op: Op, verb: string) => `${verb} ${mebibytes(this.bytes[op])} in ${this.requests[op]} requests`;
    return `${name}: ${part(Op.Read, "read")}, ${part(Op.Write, "wrote")}, ${this.requests[Op.Flush]} flushes`;
  }
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
