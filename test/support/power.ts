import { SegmentList } from "../../src/core/segments.ts";
import type { MemoryStore } from "../../src/host/store/memory.ts";
import { KeptStore } from "./disks.ts";

/** One change of a store, or the moment at which those before it are durable. */
export type Step =
  | { kind: "write"; position: number; bytes: Uint8Array }
  | { kind: "discard"; position: number; length: number }
  | { kind: "resize"; size: number }
  | { kind: "flush" };

/** Remembers every step, so that any power cut can be played back. Outlives the disk over it. */
export class RecordingStore extends KeptStore {
  readonly steps: Step[] = [];

  /** One that has these bytes, durably. */
  static holding(bytes: Uint8Array): RecordingStore {
    const store = new RecordingStore();
    store.resize(bytes.length);
    store.writev(0, bytes, SegmentList.of(0, bytes.length));
    store.flush();
    return store;
  }

  override writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    const bytes = new Uint8Array(segments.total);
    for (let i = 0, at = 0; i < segments.count; at += segments.length(i), i++) {
      bytes.set(memory.subarray(segments.start(i), segments.start(i) + segments.length(i)), at);
    }
    this.steps.push({ kind: "write", position, bytes });
    super.writev(position, memory, segments);
  }
  override discard(position: number, length: number): void {
    this.steps.push({ kind: "discard", position, length });
    super.discard(position, length);
  }
  override resize(size: number): void {
    this.steps.push({ kind: "resize", size });
    super.resize(size);
  }
  override flush(): void {
    this.steps.push({ kind: "flush" });
    super.flush();
  }
}

/** A disk writes its sectors whole. */
const SECTOR = 512;

/**
 * What is found after power was lost when `count` steps had been made: all of them, in order; or, with `random`, those up
 * to the last flush and any part of the rest, as from a disk with a volatile cache.
 */
export function afterCut(steps: readonly Step[], count: number, random?: () => number): MemoryStore {
  const store = new KeptStore();
  let flushed = count;
  if (random) while (flushed > 0 && steps[flushed - 1].kind !== "flush") flushed--;
  const share = random?.() ?? 1;
  const kept = () => !random || random() < share;
  for (const [i, step] of steps.slice(0, count).entries()) {
    if (i < flushed) play(store, step);
    else if (step.kind === "write") {
      for (let at = 0; at < step.bytes.length; at += SECTOR) {
        const bytes = step.bytes.subarray(at, at + SECTOR);
        if (kept()) play(store, { kind: "write", position: step.position + at, bytes });
      }
    } else if (kept()) play(store, step);
  }
  return store;
}

function play(store: MemoryStore, step: Step): void {
  if (step.kind === "write") store.writev(step.position, step.bytes, SegmentList.of(0, step.bytes.length));
  else if (step.kind === "resize") store.resize(step.size);
  else if (step.kind === "discard") {
    const length = Math.min(step.length, store.size - step.position);
    if (length > 0) store.discard(step.position, length);
  }
}
