// What a page (or Node) does with the built package: disks behind HTTP and in Blobs, and an overlay over them.
import {
  BlobStore,
  createOverlay,
  HttpStore,
  MemoryStore,
  openDisk,
  readBytes,
  SegmentList,
  writeBytes,
  writeZeroes,
} from "../../dist/src/index.js";

const MiB = 2 ** 20;

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A store in memory whose content outlives the disk over it. */
class KeptStore extends MemoryStore {
  close() {}
}

function textOf(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

/** Opens the base, puts a qcow2 in memory over it, writes, and opens both again: digests, and the qcow2 itself. */
async function overlaid(openBase) {
  const base = await openDisk(await openBase());
  const { size, format, readOnly } = base;
  const before = await sha256(await readBytes(base, 0, size));
  const store = new KeptStore();
  const disk = await createOverlay(base, store, { format: "qcow2", parent: { path: "base.qcow2" } });
  for (let i = 0; i < 20; i++) {
    await writeBytes(disk, (i * 997 * 512) % (size - MiB), new Uint8Array(512 * (1 + i * 7)).fill(i + 1));
  }
  await writeZeroes(disk, MiB, 128 * 1024);
  const written = await sha256(await readBytes(disk, 0, size));
  await disk.close();
  const again = await openDisk(store, { backing: await openDisk(await openBase()) });
  const reopened = await sha256(await readBytes(again, 0, size));
  await again.close();
  const bytes = new Uint8Array(store.size);
  store.readv(0, bytes, SegmentList.of(0, bytes.length));
  return { size, format, readOnly, before, written, reopened, image: textOf(bytes) };
}

export const overHttp = (url) => overlaid(() => HttpStore.open(url, { unit: 65536 }));

export async function overBlob(url) {
  const blob = await (await fetch(url)).blob();
  return overlaid(() => new BlobStore(blob));
}

/** The code and message of what it throws. */
export async function refusal(url) {
  try {
    await HttpStore.open(url, { retries: 0 });
    return "none";
  } catch ({ code, message }) {
    return `${code} ${message}`;
  }
}
