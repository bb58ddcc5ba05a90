import { createHash } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ParavaneError } from "../../src/core/error.ts";
import { readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { KeptStore, LUKS } from "../support/disks.ts";
import { bytesOf } from "../support/luks.ts";
import { contentOf, randomFrom } from "../support/stores.ts";
import { tier } from "../support/tier.ts";

const passphrase = bytesOf("correct horse");
/** Little enough that no damage makes a test take long. */
const kdf = { maxIterations: 4000, maxMemory: 2 ** 20, maxWork: 2 ** 23 };

async function made(options: { format: string } & Record<string, unknown>): Promise<Uint8Array> {
  const store = new KeptStore();
  const disk = await createDisk(store, { size: 65536, passphrase, ...options });
  await writeBytes(disk, 0, new Uint8Array(4096).fill(0x5a));
  await disk.close();
  return contentOf(store);
}

const open = (content: Uint8Array) => openDisk(new KeptStore(content), { passphrase, kdf, readOnly: true });

/** How an image with these bytes changed is taken: "opened", or the code of the refusal. */
async function taken(content: Uint8Array): Promise<string> {
  try {
    const disk = await open(content);
    await readBytes(disk, 0, Math.min(disk.size, 4096)).catch((error: unknown) => {
      if (!(error instanceof ParavaneError)) throw error;
    });
    await disk.close();
    return "opened";
  } catch (thrown) {
    if (!(thrown instanceof ParavaneError)) throw thrown;
    expect(thrown.describe().length).toBeLessThan(600);
    return thrown.code;
  }
}

const REFUSALS = ["opened", "CORRUPT", "UNSUPPORTED", "DENIED"];

/** The binary header of version 2 with a right checksum again; the JSON changed by `edit`. */
function resealed(content: Uint8Array, edit: (json: string) => string): Uint8Array {
  const bytes = content.slice();
  for (const at of [0, 16384]) {
    const header = bytes.subarray(at, at + 16384);
    const text = new TextDecoder().decode(header.subarray(4096)).replaceAll("\0", "");
    const json = bytesOf(edit(text)).subarray(0, 12287);
    header.fill(0, 4096).set(json, 4096);
    header.fill(0, 448, 512).set(createHash("sha256").update(header).digest(), 448);
  }
  return bytes;
}

describe.each([
  { name: "LUKS1", options: { format: "luks", ...LUKS }, from: 0, to: 592 },
  {
    name: "qcow2 with LUKS",
    options: { format: "qcow2", encryption: { iterations: 1000 } },
    from: 0,
    to: 65536 + 592,
  },
])("$name", ({ options, from, to }) => {
  test("whatever its header says, it opens or is refused in its own words", async () => {
    const content = await made(options);
    expect(await taken(content)).toBe("opened");
    const random = randomFrom(11);
    const seen = new Set<string>();
    for (let i = 0; i < tier(80, 20000); i++) {
      const changed = content.slice();
      for (let edits = 1 + Math.floor(random() * 3); edits > 0; edits--) {
        const wide = random() < 0.3;
        const at = random() < 0.5 ? to - 592 + Math.floor(random() * 592) : from + Math.floor(random() * 512);
        const value = [0, 0xff, 0x80, 1, Math.floor(random() * 256)][Math.floor(random() * 5)];
        changed.fill(value, at, Math.min(to, at + (wide ? 8 : 1)));
      }
      // What is no image any more, or another's, is somebody else's test.
      changed.set(content.subarray(0, 8), 0);
      seen.add(await taken(changed));
    }
    expect([...seen].filter((each) => !REFUSALS.includes(each))).toEqual([]);
    expect(seen.size).toBeGreaterThan(2);
  });
});

test("LUKS1 that asks for four thousand million rounds is refused at once", async () => {
  const content = await made({ format: "luks", ...LUKS });
  for (const at of [164, 208 + 4]) {
    const changed = content.slice();
    changed.fill(0xff, at, at + 4);
    const opening = openDisk(new KeptStore(changed), { passphrase, readOnly: true });
    await expect(opening).rejects.toThrow(/4294967295 PBKDF2 iterations; \d+ are allowed/);
  }
});

describe("LUKS2", () => {
  const options = { format: "luks", version: 2, pbkdf: "pbkdf2", iterations: 1000 };

  test("that asks for 100 GiB, or endless passes, is refused at once", async () => {
    const content = await made(options);
    const kdfs = [
      '"kdf":{"type":"argon2id","time":4,"memory":104857600,"cpus":4,"salt":"AAAA"}',
      '"kdf":{"type":"argon2id","time":4294967295,"memory":1048576,"cpus":4,"salt":"AAAA"}',
      '"kdf":{"type":"argon2i","time":4,"memory":65536,"cpus":8000,"salt":"AAAA"}',
      '"kdf":{"type":"pbkdf2","hash":"sha256","iterations":4294967295,"salt":"AAAA"}',
    ];
    for (const kdf of kdfs) {
      const changed = resealed(content, (json) => json.replace(/"kdf":\{[^}]*\}/, kdf));
      const opening = openDisk(new KeptStore(changed), { passphrase, readOnly: true });
      await expect(opening).rejects.toMatchObject({ code: "UNSUPPORTED", message: /^the header asks for/ });
    }
  });

  test("whatever its JSON says, it opens or is refused in its own words", async () => {
    const content = await made(options);
    expect(await taken(resealed(content, (json) => json))).toBe("opened");
    const random = randomFrom(5);
    const values = [
      '"0"',
      "0",
      "-1",
      "1e308",
      "null",
      "[]",
      "{}",
      '"18446744073709551615"',
      '"aes-cbc-null"',
      "4294967296",
    ];
    const seen = new Set<string>();
    for (let i = 0; i < tier(80, 20000); i++) {
      const changed = resealed(content, (json) => {
        const at = Math.floor(random() * json.length);
        const value = values[Math.floor(random() * values.length)];
        if (random() < 0.1) return json.slice(0, at);
        if (random() < 0.2)
          return `${json.slice(0, at)}${String.fromCharCode(33 + random() * 90)}${json.slice(at + 1)}`;
        // Another value for a key somewhere behind that place.
        const rest = json.slice(at).replace(/":("[^"]*"|\d+|\[[^\]]*\]|\{)/, `":${value}`);
        return json.slice(0, at) + rest;
      });
      seen.add(await taken(changed));
    }
    for (const json of [
      "",
      "{",
      "[".repeat(12000),
      '{"config":{"keyslots_size":"4096"},"segments":{},"keyslots":{},"digests":{}}',
    ]) {
      seen.add(await taken(resealed(content, () => json)));
    }
    expect([...seen].filter((each) => !REFUSALS.includes(each))).toEqual([]);
    expect(seen.size).toBeGreaterThan(2);
  });
});
