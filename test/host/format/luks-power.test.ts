import { describe, expect, test } from "vitest";
import { flush, readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { addKey, eraseKey } from "../../../src/host/image/keys.ts";
import type { MemoryStore } from "../../../src/host/store/memory.ts";
import { bytesOf } from "../../support/luks.ts";
import { afterCut, RecordingStore } from "../../support/power.ts";
import { randomFrom } from "../../support/stores.ts";
import { tier } from "../../support/tier.ts";

const [FIRST, SECOND] = [bytesOf("correct horse"), bytesOf("battery staple")];
const DATA = new Uint8Array(4096).fill(0x5a);
const RANDOM_CUTS = tier(2, 30);

/** Does the passphrase open what is left, to the data that was there? */
async function opens(store: MemoryStore, format: string, passphrase: Uint8Array): Promise<boolean> {
  const opening = openDisk(store, { format, passphrase, readOnly: true });
  const disk = await opening.catch((error) => {
    if (error.code === "DENIED") return undefined;
    throw error;
  });
  if (!disk) return false;
  const read = await readBytes(disk, 0, DATA.length);
  await disk.close();
  expect(Buffer.compare(read, DATA)).toBe(0);
  return true;
}

describe.each([
  ["LUKS1", "luks", { iterations: 1000, cipher: "aes-cbc-plain64", keySize: 128 }],
  ["LUKS2", "luks", { version: 2, pbkdf: "pbkdf2", iterations: 1000, cipher: "aes-cbc-plain64", keySize: 128 }],
  ["qcow2 with LUKS", "qcow2", { encryption: { iterations: 1000 } }],
] as const)("%s", (_, format, options) => {
  test("power may be lost at any step of a change of passphrase: one always opens it", async () => {
    const store = new RecordingStore();
    await (await createDisk(store, { format, size: 65536, passphrase: FIRST, ...options })).close();
    const disk = await openDisk(store, { format, passphrase: FIRST });
    await writeBytes(disk, 0, DATA);
    await flush(disk);
    const made = store.steps.length;
    await addKey(disk, { passphrase: FIRST, newPassphrase: SECOND, iterations: 1000 });
    const added = store.steps.length;
    await eraseKey(disk, { passphrase: FIRST });
    const erased = store.steps.length;
    await disk.close();
    expect([await opens(store, format, FIRST), await opens(store, format, SECOND)]).toEqual([false, true]);
    const random = randomFrom(5);
    let cuts = 0;
    for (let count = made; count <= erased; count++) {
      for (let way = 0; way <= RANDOM_CUTS; way++) {
        const left = afterCut(store.steps, count, way === 0 ? undefined : random);
        const first = await opens(left, format, FIRST);
        const second = await opens(left, format, SECOND);
        // What has been said to be done is done; what is under way is either, but never nothing.
        const wanted = count <= added ? first : second;
        expect([count, way, wanted]).toEqual([count, way, true]);
        if (count >= added) expect([count, way, second]).toEqual([count, way, true]);
        if (count === erased) expect([count, way, first]).toEqual([count, way, false]);
        cuts++;
      }
    }
    expect(cuts).toBeGreaterThan(20);
  });
});
