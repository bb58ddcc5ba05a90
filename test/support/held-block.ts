import type { Block, BlockRequest } from "../../src/core/block.ts";

/** An asynchronous block: it carries a batch out, and says so, only when told. */
export class HeldBlock implements Block {
  readonly #inner: Block;
  readonly #held: { batch: readonly BlockRequest[]; done: () => void }[] = [];
  /** Batches were given back to front. */
  reversed = false;
  /** Sizes of all batches so far. */
  readonly batches: number[] = [];
  size: number;

  constructor(inner: Block) {
    this.#inner = inner;
    this.size = inner.size;
  }
  get sectorSize(): number {
    return this.#inner.sectorSize;
  }
  get readOnly(): boolean {
    return this.#inner.readOnly;
  }
  get copied(): number {
    return this.#inner.copied;
  }
  get held(): number {
    return this.#held.length;
  }

  submit(batch: readonly BlockRequest[]): Promise<void> {
    this.batches.push(batch.length);
    return new Promise((done) => this.#held.push({ batch: [...batch], done }));
  }

  /** Finishes the oldest batch held (the newest, when reversed), and lets the consequences happen. */
  async release(): Promise<void> {
    const next = this.reversed ? this.#held.pop() : this.#held.shift();
    await this.#inner.submit(next!.batch);
    next!.done();
    // The promise chain between block and device is a few links long.
    for (let i = 0; i < 10; i++) await null;
  }

  async releaseAll(): Promise<void> {
    while (this.#held.length > 0) await this.release();
  }

  close(): void {}
}
