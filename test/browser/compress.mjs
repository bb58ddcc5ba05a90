// What a page does to write compressed images: with what the platform has, and on workers.
import { compressPool, createDisk, MemoryStore, packDisk, SegmentList, writeBytes } from "../../dist/src/index.js";

class KeptStore extends MemoryStore {
  close() {}
}

/** A packed image of a disk with `size` bytes of text at 1 MiB: in base64. @param workers how many, or none: the default */
export async function pack(options, size, workers) {
  const line = new TextEncoder().encode("the quick brown fox jumps over the lazy dog\n");
  const disk = await createDisk(new KeptStore(), { format: "raw", size: 2 ** 22 });
  const bytes = Uint8Array.from({ length: size }, (_, i) => line[i % line.length] ^ (i >> 14));
  await writeBytes(disk, 2 ** 20, bytes);
  const store = new KeptStore();
  const target = await createDisk(store, { ...options, size: disk.size });
  let started = 0;
  const start = () => {
    started++;
    return new Worker("/test/browser/compress-worker.mjs", { type: "module" });
  };
  const compress = workers ? compressPool(start, workers) : undefined;
  await packDisk(disk, target, { fresh: true, ...(compress && { compress }) });
  compress?.close();
  await target.close();
  const image = new Uint8Array(store.size);
  store.readv(0, image, SegmentList.of(0, image.length));
  let text = "";
  for (let at = 0; at < image.length; at += 4096) text += String.fromCharCode(...image.subarray(at, at + 4096));
  return { image: btoa(text), started };
}
