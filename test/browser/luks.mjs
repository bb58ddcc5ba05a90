// What a page (or Node) does with encrypted disks: makes them, changes their passphrases, and reads those of others.
import {
  addKey,
  createDisk,
  eraseKey,
  HttpStore,
  MemoryStore,
  openDisk,
  readBytes,
  SegmentList,
  writeBytes,
} from "../../dist/src/index.js";

class KeptStore extends MemoryStore {
  close() {}
}
const bytesOf = (text) => new TextEncoder().encode(text);

/** A new image with a passphrase that was changed, and a megabyte written: its bytes in base64, and what it read again as. */
export async function make(format, options) {
  const store = new KeptStore();
  const [old, passphrase] = [bytesOf("the first one"), bytesOf("correct horse")];
  await (await createDisk(store, { format, size: 2 ** 20, passphrase: old, ...options })).close();
  const disk = await openDisk(store, { format, passphrase: old });
  await writeBytes(disk, 4096, new Uint8Array(65536).fill(0x5a));
  await addKey(disk, { passphrase: old, newPassphrase: passphrase, iterations: 1000 });
  await eraseKey(disk, { passphrase: old });
  await disk.close();
  const again = await openDisk(store, { format, passphrase });
  const good = (await readBytes(again, 4096, 65536)).every((byte) => byte === 0x5a);
  await again.close();
  const refused = await openDisk(store, { format, passphrase: old }).then(
    () => "opened",
    ({ code }) => code,
  );
  const bytes = new Uint8Array(store.size);
  store.readv(0, bytes, SegmentList.of(0, bytes.length));
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return { good, refused, image: btoa(text) };
}

/** The digest of the first 64 KiB of an image behind HTTP. @param wasm the address of the package hash-wasm, for Argon2 */
export async function read(url, { format, passphrase, wasm }) {
  const hashWasm = wasm && (await import(wasm));
  const disk = await openDisk(await HttpStore.open(url), {
    ...{ format, passphrase: bytesOf(passphrase) },
    ...(hashWasm && { kdf: { hashWasm } }),
  });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await readBytes(disk, 0, 65536)));
  await disk.close();
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
