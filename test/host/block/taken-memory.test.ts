import { expect, test } from "vitest";
import { BlockRequest, Op } from "../../../src/core/block.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { KeptStore } from "../../support/disks.ts";
import { LateStore } from "../../support/stores.ts";

// v86's memory grows whenever it needs room of its own, which takes every view of it away: those of requests under way, too.

test.each(["vhd", "qcow2", "vhdx", "vdi", "vmdk"])(
  "%s: memory is taken from a read, and the disk still closes",
  async (format) => {
    const store = new KeptStore();
    await (await createDisk(store, { format, size: 2 ** 36 })).close();
    const disk = await openDisk(new LateStore(store), { format });
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
    const request = new BlockRequest();
    request.op = Op.Read;
    request.offset = 2 ** 35;
    request.length = 512;
    request.memory = new Uint8Array(memory.buffer);
    request.segments.push(0, 512);
    // A place that nothing is known of yet: its table is read first.
    const reading = (async () => disk.submit([request]))();
    memory.grow(1);
    expect(request.memory.length).toBe(0);
    // Where there is nothing to be read, it is the engine that finds nowhere to put zeros.
    await expect(reading).rejects.toBeInstanceOf(TypeError);
    await disk.close();
  },
);
