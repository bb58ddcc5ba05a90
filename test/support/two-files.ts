import { type Later, run } from "../../src/core/flow.ts";
import type { CreateOptions, Format } from "../../src/core/format.ts";
import { SegmentList } from "../../src/core/segments.ts";
import type { Store } from "../../src/core/store.ts";
import { type Disk, type OpenDiskOptions, openDisk } from "../../src/host/block/open.ts";
import { vmdk } from "../../src/host/format/vmdk/index.ts";

/** Bytes that the first of the two has. */
const FIRST = 4096;

/** One of two files that are kept in one store, so that suites which cut, fail or damage a store do so to both. */
class Half implements Store {
  readonly #inner: Store;
  readonly #second: boolean;

  constructor(inner: Store, second: boolean) {
    this.#inner = inner;
    this.#second = second;
  }

  get name(): string {
    return `${this.#inner.name}, ${this.#second ? "extent" : "descriptor"}`;
  }
  get size(): number {
    return this.#second ? Math.max(0, this.#inner.size - FIRST) : Math.min(FIRST, this.#inner.size);
  }
  get readOnly(): boolean {
    return this.#inner.readOnly;
  }
  get releases(): boolean {
    return this.#inner.releases;
  }
  get #from(): number {
    return this.#second ? FIRST : 0;
  }

  readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return this.#inner.readv(this.#from + position, memory, segments);
  }
  writev(position: number, memory: Uint8Array, segments: SegmentList): Later<void> {
    return this.#inner.writev(this.#from + position, memory, segments);
  }
  flush(): Later<void> {
    return this.#inner.flush();
  }
  discard(position: number, length: number): Later<void> {
    return this.#inner.discard(this.#from + position, length);
  }
  resize(size: number): Later<void> {
    if (this.#second) return this.#inner.resize(FIRST + size);
    // The first keeps its size: zeros end it.
    const zeros = new Uint8Array(FIRST - size);
    return this.#inner.writev(size, zeros, SegmentList.of(0, zeros.length));
  }
  close(): void {}
}

/** A descriptor and its one extent, as one store. */
export function twoImage(descriptor: Uint8Array, extent: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(FIRST + extent.length);
  bytes.set(descriptor);
  bytes.set(extent, FIRST);
  return bytes;
}

const second = (store: Store) => () => new Half(store, true);

/** A VMDK of a descriptor and one extent, both in the store. */
export async function createTwo(
  store: Store,
  { format: _, ...options }: CreateOptions,
  more: OpenDiskOptions = {},
): Promise<Disk> {
  if (store.size < FIRST) await store.resize(FIRST);
  const files = { name: "disk.vmdk", make: second(store) };
  await run(vmdk.create!(new Half(store, false), options as CreateOptions, files));
  await store.flush();
  return openTwo(store, more);
}

export function openTwo(store: Store, options: OpenDiskOptions = {}): Promise<Disk> {
  return openDisk(new Half(store, false), { ...options, openFile: second(store) });
}

/** Checks both. */
export const twoFiles: Format = {
  ...vmdk,
  check: (store) => vmdk.check!(new Half(store, false), { openFile: second(store) }),
  repair: (store, what) => vmdk.repair!(new Half(store, false), what, { openFile: second(store) }),
};
