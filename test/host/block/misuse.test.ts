import { expect, test } from "vitest";
import { createDisk, MemoryStore, openDisk, type Passphrase, readBytes } from "../../../src/index.ts";

class KeptStore extends MemoryStore {
  override close(): void {}
}

// What a program without types gets wrong is refused with a code and what to do, never answered.

test("a range that is none is refused", async () => {
  const disk = await createDisk(new MemoryStore(), { format: "raw", size: 4096 });
  for (const [offset, length] of [
    [-1, 5],
    [0, -1],
    [0.5, 1],
    [0, Number.NaN],
  ])
    await expect(readBytes(disk, offset, length)).rejects.toMatchObject({ code: "OUT_OF_RANGE" });
  expect(await readBytes(disk, 4096, 0)).toHaveLength(0);
  await disk.close();
});

test("a passphrase that is a string is refused", async () => {
  const passphrase = "secret" as unknown as Passphrase;
  const refused = { code: "INVALID", hint: expect.stringContaining("TextEncoder") };
  const options = { format: "luks", size: 1 << 20, iterTime: 1 };
  await expect(createDisk(new MemoryStore(), { ...options, passphrase })).rejects.toMatchObject(refused);
  const store = new KeptStore();
  const disk = await createDisk(store, { ...options, passphrase: new TextEncoder().encode("secret") });
  await disk.close();
  await expect(openDisk(store, { passphrase })).rejects.toMatchObject(refused);
});

test("options of a new qcow2 that are missing or unknown are refused with what is known", async () => {
  const made = (options: object) => createDisk(new MemoryStore(), { format: "qcow2", size: 1 << 20, ...options });
  await expect(made({ clusterSiz: 65536 })).rejects.toMatchObject({ hint: expect.stringContaining("clusterSize") });
  await expect(made({ size: undefined })).rejects.toMatchObject({ hint: expect.stringContaining("size") });
});
