import { expect, test } from "vitest";
import type { SegmentList } from "../../../src/core/segments.ts";
import { writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay } from "../../../src/host/block/overlay.ts";
import { commitDisk } from "../../../src/host/image/commit.ts";
import { Content } from "../../support/family.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { randomFrom } from "../../support/stores.ts";

const MiB = 2 ** 20;

/** Two of them tell in which order they were changed. */
class OneOfTwo extends RecordingStore {
  readonly #order: OneOfTwo[];
  constructor(order: OneOfTwo[]) {
    super();
    this.#order = order;
  }
  override writev(position: number, memory: Uint8Array, segments: SegmentList): void {
    this.#order.push(this);
    super.writev(position, memory, segments);
  }
  override discard(position: number, length: number): void {
    this.#order.push(this);
    super.discard(position, length);
  }
  override resize(size: number): void {
    this.#order.push(this);
    super.resize(size);
  }
  override flush(): void {
    this.#order.push(this);
    super.flush();
  }
}

test.each(["qcow2", "vhd", "vhdx"])(
  "%s over its own kind: after a power cut at any moment of a commit the image reads as before",
  async (format) => {
    const order: OneOfTwo[] = [];
    const below = new OneOfTwo(order);
    const above = new OneOfTwo(order);
    const size = 3 * MiB;
    const made = await createDisk(below, { format, size });
    const content = new Content(size, 8);
    await content.scribble(made, 8);
    await made.close();
    const top = await createOverlay(await openDisk(below, { readOnly: true }), above, {
      format,
      parent: { path: "base" },
    });
    await content.scribble(top, 6);
    await writeBytes(top, 0, content.bytes.slice(0, 4096));
    await top.close();

    const before = order.length;
    const disk = await openDisk(above, { backing: await openDisk(below) });
    await commitDisk(disk);
    await disk.close();
    const random = randomFrom(4);
    for (let cut = before; cut <= order.length; cut++) {
      const done = (store: OneOfTwo) => order.slice(0, cut).filter((one) => one === store).length;
      for (const cache of [undefined, random, random]) {
        const stores = [below, above].map((store) => afterCut(store.steps, done(store), cache));
        const backing = await openDisk(stores[0], { format, readOnly: true });
        const found = await openDisk(stores[1], { format, backing, readOnly: true });
        await content.check(found);
        await found.close();
      }
    }
    expect(order.length - before).toBeGreaterThan(10);
  },
);
