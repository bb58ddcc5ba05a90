import { type Block, BlockRequest, Op, Status } from "../../src/core/block.ts";

export const SECTOR = 512;

/** What a disk must hold: a tag for each sector that was written, 0 for the rest; a discarded one may be either. */
export class Model {
  readonly #tags = new Map<number, number>();
  readonly #discarded = new Set<number>();
  #next = 1;

  /** Fills the request's memory with sectors nobody has written before, and notes them. */
  write(sector: number, count: number): Uint32Array {
    const words = new Uint32Array((count * SECTOR) / 4);
    for (let i = 0; i < count; i++) {
      const tag = this.#next++;
      words.fill(tag, i * 128, i * 128 + 128);
      this.#tags.set(sector + i, tag);
      this.#discarded.delete(sector + i);
    }
    return words;
  }

  zero(sector: number, count: number): void {
    for (let i = sector; i < sector + count; i++) {
      this.#tags.delete(i);
      this.#discarded.delete(i);
    }
  }

  discard(sector: number, count: number): void {
    for (let i = sector; i < sector + count; i++) if (this.#tags.has(i)) this.#discarded.add(i);
  }

  /** The sectors' content now, to compare a later completion with. */
  expectation(sector: number, count: number): (words: Uint32Array) => string | null {
    const tags = new Uint32Array(count);
    const discarded = new Uint8Array(count);
    for (let i = 0; i < count; i++) {
      tags[i] = this.#tags.get(sector + i) ?? 0;
      discarded[i] = this.#discarded.has(sector + i) ? 1 : 0;
    }
    return (words) => {
      for (let i = 0; i < count; i++) {
        const seen = words[i * 128];
        for (let word = i * 128 + 1; word < i * 128 + 128; word++) {
          if (words[word] !== seen) return `sector ${sector + i} is torn`;
        }
        if (seen === tags[i] || (seen === 0 && discarded[i] === 1)) continue;
        return `sector ${sector + i} holds ${seen}, not ${tags[i]}${discarded[i] === 1 ? " or 0" : ""}`;
      }
      return null;
    };
  }

  /** Every sector that was ever written. */
  get sectors(): number[] {
    return [...this.#tags.keys()];
  }
}

/** One step of a random program. */
export interface Step {
  kind: "read" | "write" | "zero" | "discard" | "flush";
  sector: number;
  count: number;
}

/** Turns steps into one batch; `check` compares what was read, after the batch has completed. */
export function batchOf(model: Model, steps: readonly Step[]): { batch: BlockRequest[]; check(): string | null } {
  const checks: (() => string | null)[] = [];
  const batch = steps.map(({ kind, sector, count }) => {
    const request = new BlockRequest();
    request.offset = sector * SECTOR;
    request.length = count * SECTOR;
    if (kind === "read" || kind === "write") {
      const words = kind === "write" ? model.write(sector, count) : new Uint32Array((count * SECTOR) / 4);
      request.op = kind === "read" ? Op.Read : Op.Write;
      // Two segments, out of order in memory, so that scatter lists are really followed.
      const bytes = new Uint8Array(words.buffer);
      const half = Math.floor(count / 2) * SECTOR;
      request.memory = new Uint8Array(bytes.length + 64);
      request.segments.push(bytes.length - half + 64, half);
      request.segments.push(0, bytes.length - half);
      if (kind === "write") {
        request.memory.set(bytes.subarray(0, half), bytes.length - half + 64);
        request.memory.set(bytes.subarray(half), 0);
      } else {
        // What is not filled is seen.
        request.memory.fill(0xde);
        const expected = model.expectation(sector, count);
        checks.push(() => {
          bytes.set(request.memory.subarray(bytes.length - half + 64), 0);
          bytes.set(request.memory.subarray(0, bytes.length - half), half);
          return expected(words);
        });
      }
    } else if (kind === "zero") {
      request.op = Op.WriteZeroes;
      model.zero(sector, count);
    } else if (kind === "discard") {
      request.op = Op.Discard;
      model.discard(sector, count);
    } else {
      request.op = Op.Flush;
      request.offset = request.length = 0;
    }
    return request;
  });
  return {
    batch,
    check() {
      for (const [i, request] of batch.entries()) {
        if (request.status !== Status.Ok) return `${steps[i].kind} at ${steps[i].sector}: ${request.error}`;
      }
      for (const check of checks) {
        const wrong = check();
        if (wrong) return wrong;
      }
      return null;
    },
  };
}

/** Sectors of a read, by turns. */
const RUNS = [1, 2, 3, 8, 21, 64];

/** Reads every sector that was ever written, and some beside, in runs of all lengths; answers the first difference. */
export async function compare(block: Block, model: Model): Promise<string | null> {
  const last = block.size / SECTOR - 1;
  const near = new Set([0, last]);
  for (const sector of model.sectors) {
    near
      .add(Math.max(0, sector - 1))
      .add(sector)
      .add(Math.min(last, sector + 1));
  }
  const sectors = Float64Array.from(near).sort();
  let reads = 0;
  for (let first = 0; first < sectors.length; ) {
    const most = RUNS[reads++ % RUNS.length];
    let count = 1;
    while (count < most && sectors[first + count] === sectors[first] + count) count++;
    const { batch, check } = batchOf(model, [{ kind: "read", sector: sectors[first], count }]);
    await block.submit(batch);
    const wrong = check();
    if (wrong) return wrong;
    first += count;
  }
  return null;
}
