import { type Block, Op } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import type { NewParent } from "../../core/format.ts";
import { Absent } from "../block/absent.ts";
import { flush } from "../block/bytes.ts";
import { Engine } from "../block/engine.ts";
import type { Disk } from "../block/open.ts";
import { parentNote } from "../block/overlay.ts";
import type { Place } from "../block/places.ts";
import { Requests } from "./request.ts";
import { Pace, type TaskOptions } from "./task.ts";
import { engineOf, parentsOf } from "./whole.ts";

export interface RebaseOptions extends TaskOptions {
  /** The new parent, which the disk closes from then on. None: the image is to hold everything itself. */
  backing?: Block;
  /** How the image is to name it; its format and identity are the new parent's own unless given. */
  parent?: NewParent;
  /** Only notes the new name: right where the new parent has the old one's content, and wrong elsewhere. */
  unsafe?: boolean;
}

export interface RebaseReport {
  /** Bytes that differ between the parents, and were copied into the image. */
  copied: number;
}

/** Bytes compared at a time; and the least that is told apart. */
const CHUNK = 1 << 20;
const GRAIN = 4096;
/** Bytes that blocks are asked about at a time. */
const WINDOW = 2 ** 30;

/**
 * Puts an image over another parent. It reads the same afterwards: what it does not hold itself and differs between the old
 * parent and the new is copied into it first, and only then the name changes, at once. Until that, it is the same image over
 * the old parent. Nobody may use the disk meanwhile.
 * @throws ParavaneError UNSUPPORTED (by the format), INVALID (the new parent is based on the image, or not named), READ_ONLY,
 * ABORTED, NO_SPACE, MEDIA, CORRUPT, IO
 */
export async function rebaseDisk(disk: Disk, options: RebaseOptions = {}): Promise<RebaseReport> {
  const { backing, parent, unsafe = false } = options;
  const engine = engineOf(disk);
  const context = { file: engine.store.name };
  if (!engine.image.setParent) {
    throw new ParavaneError("UNSUPPORTED", `the parent of a ${disk.format} image cannot be changed`, context);
  }
  if (engine.readOnly) throw new ParavaneError("READ_ONLY", "the image is open read-only", context);
  if (backing && !parent) throw new ParavaneError("INVALID", "the new parent needs a name", context);
  if (parent && !backing && !unsafe) {
    throw new ParavaneError("INVALID", "the new parent is named, but was not given", context);
  }
  const { identity } = engine.store;
  for (const block of backing ? [backing, ...parentsOf(backing)] : []) {
    const store = block instanceof Engine ? block.store : undefined;
    if (block !== disk && (identity === undefined || store?.identity !== identity)) continue;
    throw new ParavaneError("INVALID", "the new parent is this image, or is based on it", context);
  }
  const copied = unsafe ? 0 : await copyDifferences(engine, backing, options);
  const note = parent && backing ? parentNote(backing, parent) : parent;
  const behind = backing ?? (parent && new Absent(engine.store.name, [parent.path]));
  const before = await engine.reparent(note, behind);
  if (before && before !== backing) await before.close();
  return { copied };
}

async function copyDifferences(disk: Engine, next: Block | undefined, options: TaskOptions): Promise<number> {
  const old = disk.backing;
  const pace = new Pace(options, disk.size);
  const bytes = new Uint8Array(CHUNK * 2);
  const ours = new Uint32Array(bytes.buffer, 0, CHUNK / 4);
  const theirs = new Uint32Array(bytes.buffer, CHUNK, CHUNK / 4);
  const requests = new Requests(bytes);
  let copied = 0;

  /** Where the parents' bytes [from, to) differ, the old ones go into the image. */
  const settle = async (from: number, to: number) => {
    await fill(requests, bytes, old, from, to - from, 0);
    await fill(requests, bytes, next, from, to - from, CHUNK);
    for (let at = 0; at < to - from; ) {
      const { end, kind } = run(ours, theirs, at, to - from);
      if (kind !== Kind.Same) {
        // Without an old parent a format need not note zeros that nothing hides.
        const zeros = kind === Kind.Zeros && old !== undefined;
        requests.add(zeros ? Op.WriteZeroes : Op.Write, from + at, end - at, at);
        copied += end - at;
      }
      at = end;
    }
    await requests.submit(disk);
  };

  for (let at = 0; at < disk.size; ) {
    const wait = pace.step(at);
    if (wait) await wait;
    let end = at;
    for (const { kind, depth, length } of await disk.places(at, Math.min(WINDOW, disk.size - at))) {
      const start = end;
      end += length;
      if (depth === 0 && kind !== "hole") continue;
      for (let point = start; point < end; ) {
        const again = pace.step(point);
        if (again) await again;
        const alike = await bothEmpty(old, next, point, end);
        if (alike > point) point = alike;
        else {
          const to = Math.min(end, (Math.floor(point / CHUNK) + 1) * CHUNK);
          await settle(point, to);
          point = to;
        }
      }
    }
    at = end;
  }
  await flush(disk);
  pace.end();
  return copied;
}

/** Reads a block's bytes, which need not be its whole sectors, to `at` in the buffer; zeros past its end. */
async function fill(
  requests: Requests,
  bytes: Uint8Array,
  block: Block | undefined,
  offset: number,
  length: number,
  at: number,
): Promise<void> {
  const inside = Math.max(0, Math.min(length, (block?.size ?? 0) - offset));
  bytes.fill(0, at + inside, at + length);
  if (inside === 0 || !block) return;
  const lead = offset % block.sectorSize;
  const whole = Math.ceil((lead + inside) / block.sectorSize) * block.sectorSize;
  if (whole === inside) {
    requests.add(Op.Read, offset, inside, at);
    await requests.submit(block);
    return;
  }
  const aligned = new Uint8Array(whole);
  const reading = new Requests(aligned);
  reading.add(Op.Read, offset - lead, whole, 0);
  await reading.submit(block);
  bytes.set(aligned.subarray(lead, lead + inside), at);
}

/** Up to where, from `at` on, neither block holds anything; `at` when one does there. */
async function bothEmpty(one: Block | undefined, other: Block | undefined, at: number, end: number): Promise<number> {
  const first = await emptyUntil(one, at, end);
  return first > at ? emptyUntil(other, at, first) : at;
}

async function emptyUntil(block: Block | undefined, at: number, end: number): Promise<number> {
  if (!block || block.size <= at) return end;
  if (!("places" in block)) return at;
  const inside = Math.min(end, block.size);
  // Whole sectors of the block, which may be larger than the image's.
  const start = Math.floor(at / block.sectorSize) * block.sectorSize;
  let reached = start;
  for (const { kind, length } of await (block as Disk).places(start, Math.min(WINDOW, block.size - start))) {
    if (!empty(kind)) return Math.max(at, Math.min(reached, end));
    reached += length;
    if (reached >= inside) break;
  }
  return reached >= block.size ? end : Math.min(reached, end);
}

const empty = (kind: Place["kind"]) => kind === "zero" || kind === "hole";

/** What a grain of the old parent is: the new one's, or other zeros, or other data. */
const Kind = { Same: 0, Zeros: 1, Data: 2 } as const;

/** The run of grains from byte `at` on that are of one kind. */
function run(old: Uint32Array, next: Uint32Array, at: number, end: number): { end: number; kind: number } {
  const kindOf = (from: number) => {
    const last = Math.min(from + GRAIN, end) / 4;
    let differs = false;
    let bits = 0;
    for (let i = from / 4; i < last; i++) {
      differs ||= old[i] !== next[i];
      bits |= old[i];
    }
    return !differs ? Kind.Same : bits === 0 ? Kind.Zeros : Kind.Data;
  };
  const kind = kindOf(at);
  let to = at + GRAIN;
  while (to < end && kindOf(to) === kind) to += GRAIN;
  return { end: Math.min(to, end), kind };
}
