import * as hashWasm from "hash-wasm";
import { describe, expect, test, vi } from "vitest";
import type { HashWasm, Passphrase } from "../../../src/core/secret.ts";
import { writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { addKey, eraseKey } from "../../../src/host/image/keys.ts";
import { SectorCipher } from "../../../src/wasm/cipher.ts";
import { KeptStore } from "../../support/disks.ts";
import { bytesOf } from "../../support/luks.ts";

// What passphrases are, and what is made of them, is filled with zeros after use, whatever came of it.

const isZero = (bytes: Uint8Array) => bytes.length > 0 && bytes.every((byte) => byte === 0);

/** Functions that give a passphrase, and every array that they gave. */
function given() {
  const arrays: Uint8Array[] = [];
  const asking =
    (text: string): Passphrase =>
    () => {
      const bytes = bytesOf(text);
      arrays.push(bytes);
      return bytes;
    };
  return { arrays, asking };
}

/** The package, which remembers what it derived. */
function watched() {
  const keys: Uint8Array[] = [];
  const kept = <Options>(derive: (options: Options) => Promise<Uint8Array>) => {
    return async (options: Options) => {
      const key = await derive(options);
      keys.push(key);
      return key;
    };
  };
  const wasm = hashWasm as unknown as HashWasm;
  const own: HashWasm = { ...wasm, argon2i: kept(wasm.argon2i), argon2id: kept(wasm.argon2id) };
  return { keys, kdf: { hashWasm: own } };
}

const KINDS = [
  { name: "LUKS1", options: { format: "luks", iterations: 1000 } },
  { name: "LUKS2", options: { format: "luks", version: 2, pbkdf: "argon2id", iterations: 4, memory: 2 ** 20 } },
  { name: "qcow2 with LUKS", options: { format: "qcow2", encryption: { iterations: 1000 } } },
];

describe.each(KINDS)("$name", ({ options }) => {
  test("passphrases that a function gave, and keys made of them; an array stays its owner's", async () => {
    const { arrays, asking } = given();
    const { keys, kdf } = watched();
    const store = new KeptStore();
    const cost = "version" in options ? { iterations: 4 } : { iterations: 1000 };
    const disk = await createDisk(store, { size: 65536, ...options, passphrase: asking("first"), kdf } as never);
    await writeBytes(disk, 0, new Uint8Array(512).fill(7));
    await addKey(disk, { passphrase: asking("first"), newPassphrase: asking("second"), kdf, ...cost });
    const refused = { passphrase: asking("neither"), newPassphrase: asking("third"), kdf, ...cost };
    await expect(addKey(disk, refused)).rejects.toThrow(/wrong passphrase/);
    await eraseKey(disk, { passphrase: asking("first"), kdf });
    await disk.close();
    await (await openDisk(store, { passphrase: asking("second"), kdf })).close();
    await expect(openDisk(store, { passphrase: asking("first"), kdf })).rejects.toThrow(/wrong passphrase/);
    expect(arrays.length).toBeGreaterThanOrEqual(7);
    expect(arrays.every(isZero)).toBe(true);
    expect(keys.every(isZero)).toBe(true);
    if ("version" in options) expect(keys.length).toBeGreaterThan(4);

    const own = bytesOf("second");
    await (await openDisk(store, { passphrase: own, kdf })).close();
    expect(own).toEqual(bytesOf("second"));
  });

  test("the volume key, when the disk is closed", async () => {
    const wipe = vi.spyOn(SectorCipher.prototype, "wipe");
    try {
      const store = new KeptStore();
      await (await createDisk(store, { size: 65536, ...options, passphrase: bytesOf("a") } as never)).close();
      const disk = await openDisk(store, { passphrase: bytesOf("a") });
      wipe.mockClear();
      await disk.close();
      expect(wipe).toHaveBeenCalledTimes(1);
    } finally {
      wipe.mockRestore();
    }
  });
});
