import { type Block, type BlockRequest, Op } from "../../src/core/block.ts";
import { ThroughBlock } from "../../src/host/filter/through.ts";
import type { Random } from "./random.ts";

/** A request as it was asked for: Op, and where, in bytes. */
export type Asked = [op: Op, offset: number, length: number];

/** What a guest has been told is done, in the terms of its own statistics: requests and bytes. */
export interface Tally {
  reads: number;
  readBytes: number;
  writes: number;
  writtenBytes: number;
  flushes: number;
}

/** Turns of the event loop, at most, that a batch waits before it is carried out, and again before its end is told. */
const TURNS = 8;

/**
 * The disk, but late: each batch takes a random number of turns of the event loop, in which the guest goes on, so that batches
 * end in another order than they came. Knows what is under way and what has been done.
 */
export class LateBlock extends ThroughBlock {
  /** Batches and requests so far. */
  batches = 0;
  readonly done: Tally = { reads: 0, readBytes: 0, writes: 0, writtenBytes: 0, flushes: 0 };
  readonly #underWay = new Set<Asked[]>();
  readonly #random: Random;
  #isDropped = false;

  constructor(block: Block, random: Random) {
    super(block);
    this.#random = random;
  }

  /** What the guest has not been told the end of. */
  get underWay(): Asked[] {
    return [...this.#underWay].flat();
  }

  /** As when the machine's process dies: nothing more reaches the disk, and of nothing is the end told. */
  drop(): void {
    this.#isDropped = true;
  }

  override async submit(batch: readonly BlockRequest[]): Promise<void> {
    const asked = batch.map(({ op, offset, length }): Asked => [op, offset, length]);
    const moving = batch.filter(({ op, length }) => op <= Op.Write && length > 0);
    this.batches++;
    this.#underWay.add(asked);
    await this.#late();
    try {
      await this.block.submit(batch);
    } catch (thrown) {
      // Memory was taken away meanwhile: this comes once more, too.
      this.#underWay.delete(asked);
      throw thrown;
    }
    await this.#late();
    this.#underWay.delete(asked);
    // Memory that grew meanwhile: this comes once more.
    if (moving.some(({ memory }) => memory.length === 0)) return;
    for (const each of asked) this.#count(each);
  }

  async #late(): Promise<void> {
    for (let turns = this.#random.below(TURNS + 1); turns > 0; turns--) await new Promise(setImmediate);
    if (this.#isDropped) await new Promise(() => {});
  }

  #count([op, , length]: Asked): void {
    const { done } = this;
    if (op === Op.Read) {
      done.reads++;
      done.readBytes += length;
    } else if (op === Op.Write) {
      done.writes++;
      done.writtenBytes += length;
    } else if (op === Op.Flush) done.flushes++;
  }
}
