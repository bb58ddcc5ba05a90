import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";

/** A number below `below`, of a seeded sequence. */
export type Pick = (below: number) => number;
export type Count = (outcome: string) => void;

/** Small, fast, seeded (mulberry32). */
export function random(seed: number): Pick {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** A disk that does nothing, sooner or later, and sees to it that it is asked for nothing it could not do. */
export class FuzzDisk implements Block {
  size: number;
  readonly sectorSize: number;
  readonly readOnly: boolean;
  readonly copied = 0;
  readonly held: (() => void)[] = [];
  /** What it was asked and must not be: the device would take an exception for an I/O error. */
  broken: string | undefined;
  readonly #count: Count;
  readonly #pick: Pick;
  readonly #ram: () => [start: number, end: number];

  constructor(pick: Pick, count: Count, sectorSize: number, readOnly: boolean, ram: () => [number, number]) {
    this.#count = count;
    this.size = 64 * 4096;
    this.sectorSize = sectorSize;
    this.readOnly = readOnly;
    this.#pick = pick;
    this.#ram = ram;
  }

  submit(batch: readonly BlockRequest[]): void | Promise<void> {
    const requests = batch.map((request) => ({ request, tag: request.tag }));
    for (const request of batch) this.#check(request);
    const finish = () => {
      for (const { request, tag } of requests) {
        if (request.tag !== tag) this.broken = "a request was used again while in flight";
        request.status = this.#pick(12) === 0 ? ((2 + this.#pick(6)) as Status) : Status.Ok;
        if (request.op === Op.Read && request.segments.count > 0) {
          const start = request.segments.start(0);
          request.memory.fill(request.offset, start, start + Math.min(24, request.segments.length(0)));
        }
      }
    };
    if (batch[batch.length - 1].tag === 0xffff) this.#count("written through");
    if (this.#pick(4) > 0) {
      this.#count("done at once");
      return finish();
    }
    return new Promise((resolve) =>
      this.held.push(() => {
        finish();
        resolve();
      }),
    );
  }

  #check({ op, offset, length, segments, status }: BlockRequest): void {
    const [start, end] = this.#ram();
    const bad = (what: string) => {
      this.broken ??= `the disk was asked for ${what}`;
    };
    if (op > Op.WriteZeroes || status !== Status.Pending) bad("an unknown operation");
    if (this.readOnly && op !== Op.Read && op !== Op.Flush) bad("a change");
    if (offset % this.sectorSize !== 0 || length % this.sectorSize !== 0) bad("part of a sector");
    if (offset < 0 || offset + length > this.size) bad("what lies past its end");
    if (segments.total !== (op <= Op.Write ? length : 0)) bad("other bytes than it was given");
    for (let i = 0; i < segments.count; i++) {
      if (segments.start(i) < start || segments.start(i) + segments.length(i) > end) bad("memory outside guest RAM");
    }
  }

  close(): void {}
}
