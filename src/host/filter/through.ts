import type { Block, BlockRequest } from "../../core/block.ts";
import type { Later } from "../../core/flow.ts";

/** A block over another, which lets everything through: what a filter changes, it overrides. Closing it closes the other. */
export abstract class ThroughBlock implements Block {
  protected readonly block: Block;

  constructor(block: Block) {
    this.block = block;
  }

  get size(): number {
    return this.block.size;
  }
  get sectorSize(): number {
    return this.block.sectorSize;
  }
  get readOnly(): boolean {
    return this.block.readOnly;
  }
  get copied(): number {
    return this.block.copied;
  }

  submit(batch: readonly BlockRequest[]): Later<void> {
    return this.block.submit(batch);
  }

  close(): Later<void> {
    return this.block.close();
  }
}
