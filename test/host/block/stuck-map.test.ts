import { expect, test } from "vitest";
import { BlockRequest, Status } from "../../../src/core/block.ts";
import { type Image, type Mapper, MapStop } from "../../../src/core/format.ts";
import { Engine } from "../../../src/host/block/engine.ts";
import { MemoryStore } from "../../../src/host/store/memory.ts";

test("a map that answers nothing fails the request instead of holding the machine", () => {
  const mapper = {
    maxRanges: 1,
    setRange() {},
    resolve: () => MapStop.Done,
    extentCount: 0,
    stopRange: 0,
    stopOffset: 0,
  } as unknown as Mapper;
  const image = { format: "stuck", size: 4096, sectorSize: 512, mapper, dirty: false } as unknown as Image;
  const disk = new Engine(image, new MemoryStore(4096));
  const requests = [0, 512].map((offset) => {
    const request = new BlockRequest();
    request.offset = offset;
    request.length = 512;
    request.memory = new Uint8Array(512);
    request.segments.push(0, 512);
    return request;
  });
  expect(disk.submit(requests)).toBeUndefined();
  expect(requests.map(({ status }) => status)).toEqual([Status.Io, Status.Io]);
  expect(requests[0].error?.message).toBe("the disk's map makes no progress");
});
