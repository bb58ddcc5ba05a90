import { BlockRequest, Op, Status } from "../../core/block.ts";
import type { Later } from "../../core/flow.ts";
import type { Clock } from "../../core/machine.ts";
import type { GuestRam } from "../../hypervisor/memory.ts";
import type { BlockLayer } from "../block-layer.ts";
import type { Ledger } from "./ledger.ts";

export interface BurstOptions {
  layer: BlockLayer;
  ram: GuestRam;
  clock: Clock;
  ledger: Ledger;
  /** Bytes of each request. */
  blockSize: number;
  /** Requests submitted together. */
  queueDepth: number;
}

const STATUS = Object.fromEntries(Object.entries(Status).map(([name, value]) => [value, name]));

/**
 * Requests submitted together and waited for together. The clock runs from submit to last completion and nowhere else:
 * writing the pattern before and checking what was read after are not I/O. Blocks are numbered within the region.
 */
export class Burst {
  readonly blocks: number;
  readonly depth: number;
  readonly blockSize: number;
  /** So far: requests, their bytes, and the milliseconds the clock ran. */
  requests = 0;
  bytes = 0;
  elapsed = 0;
  /** What the first wrong block was found to hold, or how the first request failed. */
  fault: string | null = null;
  readonly #options: BurstOptions;
  readonly #slots: BlockRequest[] = [];
  readonly #words: Uint32Array[] = [];
  readonly #address: number;
  readonly #pages: number;
  readonly #buffer: Uint8Array;
  /** Which burst last used a block: none twice in one. */
  readonly #used: Uint32Array;
  #number = 0;

  constructor(options: BurstOptions) {
    const { ram, ledger, blockSize, queueDepth } = options;
    this.#options = options;
    this.depth = queueDepth;
    this.blockSize = blockSize;
    this.blocks = Math.floor(ledger.region.length / blockSize);
    this.#used = new Uint32Array(this.blocks);
    this.#pages = Math.ceil((blockSize * queueDepth) / 4096);
    this.#address = ram.allocate(this.#pages);
    this.#buffer = ram.bytes(this.#address, this.#pages * 4096);
    for (let i = 0; i < queueDepth; i++) {
      const slot = new BlockRequest();
      slot.length = blockSize;
      slot.memory = ram.memory.linear;
      slot.segments.push(this.#address + i * blockSize, blockSize);
      this.#slots.push(slot);
      this.#words.push(new Uint32Array(this.#buffer.buffer, this.#buffer.byteOffset + i * blockSize, blockSize / 4));
    }
  }

  /** Plans request `index`, for `block` or, when this burst has that already, the next that is free. Returns the block. */
  plan(index: number, write: boolean, block: number): number {
    while (this.#used[block] === this.#number + 1) block = (block + 1) % this.blocks;
    this.#used[block] = this.#number + 1;
    const slot = this.#slots[index];
    slot.op = write ? Op.Write : Op.Read;
    slot.offset = this.#options.ledger.region.offset + block * this.blockSize;
    return block;
  }

  /** Carries the planned requests out and checks every byte that was read. */
  run(): Later<void> {
    const { layer, ledger, clock } = this.#options;
    this.#number++;
    // So that a read that moves nothing cannot pass for one that does.
    this.#buffer.fill(0xa5);
    for (const [i, slot] of this.#slots.entries()) {
      if (slot.op === Op.Write) ledger.write(this.#words[i], slot.offset, slot.length);
    }
    const start = clock.now();
    const pending = layer.submit(this.#slots);
    if (pending) return pending.then(() => this.#end(start, clock.now()));
    this.#end(start, clock.now());
  }

  close(): void {
    this.#options.ram.free(this.#address, this.#pages);
  }

  #end(start: number, end: number): void {
    this.elapsed += end - start;
    for (let i = 0; i < this.depth; i++) {
      const slot = this.#slots[i];
      this.requests++;
      this.bytes += slot.length;
      this.fault ??= this.#judge(slot, this.#words[i]);
    }
  }

  #judge(slot: BlockRequest, words: Uint32Array): string | null {
    if (slot.status === Status.Ok) {
      return slot.op === Op.Read ? this.#options.ledger.check(words, slot.offset, slot.length) : null;
    }
    const cause = slot.error ? `: ${slot.error.message}` : "";
    return `${slot.op === Op.Read ? "read" : "write"} at byte ${slot.offset} ended ${STATUS[slot.status]}${cause}`;
  }
}
