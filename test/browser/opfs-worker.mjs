// In a dedicated worker: a qcow2 disk in the origin's private file system, made, written, reopened and read.
import { createDisk, OpfsStore, openDisk, readBytes, writeBytes } from "../../dist/src/index.js";

const code = (work) =>
  Promise.resolve()
    .then(work)
    .then(
      () => "none",
      (error) => error.code,
    );
const pattern = (seed, length) => Uint8Array.from({ length }, (_, i) => (seed * 31 + i * 7 + (i >> 8)) & 255);

async function work() {
  const path = "disks/a.qcow2";
  const size = 8 * 2 ** 30;
  const missing = await code(() => OpfsStore.open("disks/none.img"));
  const places = [0, 65536 - 512, 2 ** 32 - 512, size - 4096];
  const disk = await createDisk(await OpfsStore.open(path, { create: true }), { format: "qcow2", size });
  const busy = await code(() => OpfsStore.open(path));
  for (const [i, at] of places.entries()) await writeBytes(disk, at, pattern(i, 4096));
  await disk.close();

  const store = await OpfsStore.open(path, { readOnly: true });
  const length = store.size;
  const readOnly = await code(() => store.resize(0));
  const again = await openDisk(store, { readOnly: true });
  let same = again.size === size;
  for (const [i, at] of places.entries()) {
    const found = await readBytes(again, at, 4096);
    const wanted = pattern(i, 4096);
    same &&= found.every((byte, k) => byte === wanted[k]);
  }
  await again.close();
  const raw = await OpfsStore.open("raw.img", { create: true });
  const quota = await code(() => raw.resize(2 ** 40));
  const lengths = [2 ** 42, 2 ** 50, 2 ** 53 - 1].map((size) => {
    try {
      raw.resize(size);
      return raw.size;
    } catch (error) {
      return error.code;
    }
  });
  raw.close();
  raw.close();
  const closed = await code(() => raw.flush());
  return {
    lengths,
    missing,
    busy,
    readOnly,
    same,
    length,
    quota,
    closed,
  };
}

work().then(
  (result) => postMessage(result),
  (error) => postMessage({ error: String(error?.stack ?? error) }),
);
