import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { fromBase64, Secrets } from "../../src/cli/verb/img/secrets.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-secrets-"));
afterAll(() => rmSync(folder, { recursive: true }));

const given = (values: Record<string, string[]>) =>
  ({ values: new Map(Object.entries(values)), flags: new Set(), rest: [] }) as never;

test("a secret in base64 is decoded without becoming text, which could not be wiped", () => {
  for (const length of [0, 1, 2, 3, 4, 31, 300]) {
    const secret = Uint8Array.from({ length }, (_, i) => i * 7 + 3);
    for (const text of [
      Buffer.from(secret).toString("base64"),
      `${Buffer.from(secret)
        .toString("base64")
        .replace(/(.{5})/g, "$1\n")}\n`,
    ]) {
      expect(fromBase64(new TextEncoder().encode(text))).toEqual(secret);
    }
  }
});

test("a file's bytes are the secret, asked for anew each time", async () => {
  const file = join(folder, "secret");
  writeFileSync(file, "c2VjcmV0Cg==\n");
  const secrets = new Secrets(
    given({
      object: [`secret,id=a,file=${file}`, `secret,id=b,file=${file},format=base64`],
      "passphrase-file": [file],
    }),
  );
  const ask = async (id?: string) => {
    const passphrase = secrets.passphrase(id) as (image: string) => Uint8Array | Promise<Uint8Array>;
    const bytes = await passphrase("x");
    const text = new TextDecoder().decode(bytes);
    bytes.fill(0);
    return text;
  };
  for (let again = 0; again < 2; again++) {
    expect(await ask("a")).toBe("c2VjcmV0Cg==\n");
    expect(await ask("b")).toBe("secret\n");
    expect(await ask()).toBe("c2VjcmV0Cg==\n");
  }
});
