import { expect, test } from "vitest";
import { RequestField } from "../../assembly/spec/request.ts";
import { AvailableRing, BlkHeader, BlkRange, BlkType, Descriptor, DescriptorFlag } from "../../assembly/spec/virtio.ts";
import { VqDevice, VqFault, VqFeature } from "../../assembly/spec/virtqueue.ts";
import { CAPACITY_SECTORS, describe, QUEUE, RECORDS, VQ, virtqueueCore } from "../../bench/fixture/virtqueue.ts";
import { VirtqueueTwin } from "../../bench/twin/virtqueue.ts";
import type { Core } from "../../src/wasm/core.ts";
import { Random } from "../support/random.ts";
import { expectSame, followCore } from "../support/twins.ts";

// What the core keeps about the chain it is parsing; nobody looks at it between calls.
const SCRATCH: [number, number][] = [
  [VQ.context + VqDevice.ChainCount, VQ.context + VqDevice.BlockSectors],
  [VQ.context + VqDevice.Gathered, VQ.context + VqDevice.Completions],
  [VQ.context + VqDevice.Chain, VQ.context + VqDevice.Size],
];
const DATA = 0x20000;

interface Part {
  address: number;
  length: number;
  write: boolean;
}

/** The elements of a request, mostly a good one. `n` keeps requests of one doorbell apart. */
function elements(core: Core, random: Random, n: number): Part[] {
  const view = new DataView(core.memory.buffer);
  // Anywhere in RAM, aligned or not.
  const header = 0x8000 + n * 1024 + random.below(8);
  const type = random.oneIn(20)
    ? random.u32()
    : random.pick([BlkType.In, BlkType.Out, BlkType.In, BlkType.Out, BlkType.Flush, BlkType.GetId, 11, 13]);
  const at = VQ.ram + header;
  view.setUint32(at + BlkHeader.Type, type, true);
  view.setUint32(at + BlkHeader.Sector, random.below(CAPACITY_SECTORS + 20) & (random.oneIn(4) ? -1 : ~7), true);
  view.setUint32(at + BlkHeader.Sector + 4, random.oneIn(40) ? random.u32() : 0, true);
  const readable: Part[] = [];
  if (random.oneIn(6)) {
    // The header in pieces, as a driver may (§2.7.4).
    const cut = 1 + random.below(15);
    readable.push({ address: header, length: cut, write: false });
    readable.push({ address: header + cut, length: 16 - cut, write: false });
  } else readable.push({ address: header, length: 16 - (random.oneIn(40) ? 1 : 0), write: false });
  const data: Part[] = [];
  if (type === BlkType.Discard || type === BlkType.WriteZeroes) {
    const ranges = random.oneIn(20) ? 33 : 1 + random.below(3);
    const payload = header + 64;
    for (let i = 0; i < ranges; i++) {
      const range = VQ.ram + payload + i * BlkRange.Size;
      view.setUint32(range + BlkRange.Sector, random.below(CAPACITY_SECTORS) & ~7, true);
      view.setUint32(range + BlkRange.Sector + 4, 0, true);
      view.setUint32(range + BlkRange.Sectors, random.below(4096) & (random.oneIn(6) ? -1 : ~7), true);
      view.setUint32(range + BlkRange.Flags, random.oneIn(10) ? random.below(4) : random.below(2), true);
    }
    readable.push({ address: payload, length: ranges * BlkRange.Size - (random.oneIn(20) ? 1 : 0), write: false });
  } else {
    const write = type !== BlkType.Out;
    for (let i = random.below(4); i >= 0; i--) {
      const length = random.oneIn(12) ? random.below(9000) : 512 * (1 + random.below(8));
      data.push({ address: DATA + random.below(1 << 21), length, write });
    }
  }
  const status = { address: 0x7000 + n, length: 1, write: true };
  return [...readable, ...data, status];
}

/** Breaks one thing about a chain, now and then. */
function spoil(random: Random, parts: Part[]): void {
  const part = random.pick(parts);
  const kind = random.below(4);
  if (kind === 0) part.address = random.u32();
  else if (kind === 1) part.length = random.oneIn(2) ? 0 : random.u32();
  else if (kind === 2) part.write = !part.write;
  else parts.pop();
}

/** Writes the chain from descriptor `first` on; how many descriptors of the queue it took. */
function chain(core: Core, random: Random, parts: Part[], first: number, n: number): number {
  const indirect = random.oneIn(2);
  const list = 0x10000 + n * 1024 + random.pick([0, 0, 2, 5]);
  if (indirect) {
    const length = parts.length * Descriptor.Size + (random.oneIn(60) ? 8 : 0);
    describe(core, VQ.descriptors, first, list, length, DescriptorFlag.Indirect | (random.oneIn(80) ? 1 : 0), 0);
    if (random.oneIn(300)) core.set(VQ.descriptors + first * Descriptor.Size + Descriptor.AddressHigh, 1);
  }
  const view = new DataView(core.memory.buffer);
  parts.forEach(({ address, length, write }, i) => {
    const index = indirect ? i : first + i;
    const at = (indirect ? VQ.ram + list : VQ.descriptors) + index * Descriptor.Size;
    const last = i === parts.length - 1;
    let flags = (last ? 0 : DescriptorFlag.Next) | (write ? DescriptorFlag.Write : 0);
    if (random.oneIn(200)) flags |= DescriptorFlag.Indirect;
    view.setUint32(at, address, true);
    view.setUint32(at + Descriptor.AddressHigh, random.oneIn(300) ? 1 : 0, true);
    view.setUint32(at + Descriptor.Length, length, true);
    view.setUint16(at + Descriptor.Flags, flags, true);
    view.setUint16(at + Descriptor.Next, random.oneIn(400) ? random.below(300) : index + 1, true);
  });
  return indirect ? 1 : parts.length;
}

test("the virtqueue twin leaves every byte as the core does", () => {
  const faults = new Set<number>();
  const refusals = new Set<number>();
  let requests = 0;
  for (let seed = 1; seed <= 400; seed++) {
    const random = new Random(seed);
    const core = virtqueueCore(random.oneIn(4) ? random.below(16) : 15, random.pick([1, 8]));
    const features = random.oneIn(4) ? random.below(4) : VqFeature.Indirect | VqFeature.EventIndex;
    core.set(VQ.context + VqDevice.Features, features);
    core.set(VQ.context + VqDevice.Stamp, random.oneIn(10) ? 0xfffffe00 - random.below(40) : random.below(1000));
    const twin = new VirtqueueTwin(core.u8);
    const u16 = new Uint16Array(core.memory.buffer);
    for (let doorbell = 0; doorbell < 10; doorbell++) {
      const index = u16[(VQ.available + AvailableRing.Index) / 2];
      let descriptor = 0;
      let count = 0;
      for (const most = 1 + random.below(20); count < most && descriptor < QUEUE - 12; count++) {
        const parts = elements(core, random, count);
        if (random.oneIn(40)) spoil(random, parts);
        const head = random.oneIn(500) ? random.below(200) : descriptor;
        descriptor += chain(core, random, parts, descriptor, count);
        u16[(VQ.available + AvailableRing.Ring) / 2 + ((index + count) & (QUEUE - 1))] = head;
      }
      if (random.oneIn(300)) count += 200;
      u16[(VQ.available + AvailableRing.Ring) / 2 + QUEUE] = random.u32();
      u16[VQ.available / 2] = random.below(2);
      u16[(VQ.available + AvailableRing.Index) / 2] = index + count;
      followCore(core, twin);
      const found = core.call.virtioBlkConsume(VQ.context);
      expect(twin.consume(VQ.context)).toBe(found);
      expectSame(core, twin, SCRATCH);
      requests += found;
      for (let i = 0; i < found; i++) {
        const at = RECORDS + i * RequestField.Size;
        const completion = VQ.context + VqDevice.Completions + i * 8;
        const status = core.get(at + RequestField.Status);
        if (status !== 1) refusals.add(core.get(at + RequestField.Private0));
        core.set(completion, core.get(at + RequestField.Tag));
        core.set(completion + 4, status === 1 ? random.pick([0, 0, 0, 6, 7]) : status);
      }
      followCore(core, twin);
      const answer = core.call.virtioBlkComplete(VQ.context, found);
      expect(twin.complete(VQ.context, found)).toBe(answer);
      expectSame(core, twin, SCRATCH);
      const fault = core.get(VQ.context + VqDevice.Fault);
      faults.add(fault);
      if (fault !== VqFault.None) break;
    }
  }
  expect(requests).toBeGreaterThan(5000);
  // Every fault but TooLong, for which the queue is too short, and every refusal.
  expect([...faults].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 10]);
  expect([...refusals].sort((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
});
