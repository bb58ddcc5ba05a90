import { readFileSync, statSync } from "node:fs";
import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import type { Passphrase } from "../../../core/secret.ts";
import { UsageError } from "../../usage.ts";
import { type Given, type ImgOption, lastOf } from "./options.ts";

/** More is no passphrase. */
const MAX_BYTES = 2 ** 23;

export const OBJECT: ImgOption = {
  long: "object",
  value: "secret,id=ID,file=PATH",
  help: "a passphrase in a file (-: standard input), for options such as encrypt.key-secret",
};
export const PASSPHRASE_FILE: ImgOption = {
  long: "passphrase-file",
  value: "PATH",
  help: "what opens encrypted images, as the bytes of a file (-: standard input)",
};
/** "a=b,c=d"; a comma in a value is written twice. */
export function pairsOf(text: string): [name: string, value: string][] {
  const parts = text.replaceAll(",,", "\0").split(",");
  return parts
    .filter((part) => part !== "")
    .map((part) => {
      const [name, ...rest] = part.replaceAll("\0", ",").split("=");
      return [name, rest.length === 0 ? "on" : rest.join("=")];
    });
}

/** Standard input, which is there once: others may ask for it again, so it is kept to the end. */
let input: Uint8Array | undefined;

/** Of what was read from standard input nothing is left. */
export function wipeInput(): void {
  input?.fill(0);
  input = undefined;
}

/** Without a string, which could not be wiped. White space, and what else is none of its characters, is passed over. */
export function fromBase64(text: Uint8Array): Uint8Array {
  const decoded = new Uint8Array(Math.floor((text.length * 3) / 4));
  let length = 0;
  let held = 0;
  let bits = 0;
  for (const code of text) {
    const value = DIGITS.indexOf(String.fromCharCode(code));
    if (value < 0) continue;
    held = ((held << 6) | value) & 0xffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    decoded[length++] = held >> bits;
  }
  if (length === decoded.length) return decoded;
  const exact = decoded.slice(0, length);
  decoded.fill(0);
  return exact;
}
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The passphrases that the command line names; none stands on it. */
export class Secrets {
  readonly #files = new Map<string, { path: string; base64: boolean }>();
  readonly #usual: string | undefined;

  /** @throws UsageError */
  constructor(given: Given) {
    this.#usual = lastOf(given, "passphrase-file");
    for (const text of given.values.get("object") ?? []) this.#add(text);
  }

  /** The secret of that id, or without one what `--passphrase-file` has. @throws UsageError when there is none */
  passphrase(id?: string): Passphrase | undefined {
    if (id === undefined) {
      const path = this.#usual;
      return path === undefined ? undefined : () => this.#read(path, false);
    }
    const file = this.#files.get(id);
    if (!file) throw new UsageError(`No secret with id '${id}'; give one with --object secret,id=${id},file=PATH`);
    return () => this.#read(file.path, file.base64);
  }

  #add(text: string): void {
    const [[type], ...fields] = pairsOf(text);
    if (type !== "secret") throw new UsageError(`--object takes secret, not "${type}"`);
    const known = new Map(fields);
    const [id, path, format = "raw"] = ["id", "file", "format"].map((name) => known.get(name));
    if (known.has("data")) {
      throw new UsageError("every process here can read this command line: put the secret into a file, file=PATH");
    }
    const other = fields.find(([name]) => !["id", "file", "format", "qom-type"].includes(name));
    if (other) throw new UsageError(`--object secret has no "${other[0]}" here`);
    if (id === undefined || path === undefined) throw new UsageError("--object secret needs id=ID,file=PATH");
    if (format !== "raw" && format !== "base64") throw new UsageError(`a secret's format is raw or base64`);
    this.#files.set(id, { path, base64: format === "base64" });
  }

  #read(path: string, base64: boolean): Uint8Array {
    try {
      if (path !== "-" && statSync(path).size > MAX_BYTES) {
        throw new ParavaneError("INVALID", `${path} is too large for a passphrase`, { file: path });
      }
      if (path === "-") input ??= readFileSync(0);
      // What was read is what is wiped by whoever uses it, and no copy.
      const bytes = path === "-" ? new Uint8Array(input!) : readFileSync(path);
      if (!base64) return bytes;
      try {
        return fromBase64(bytes);
      } finally {
        bytes.fill(0);
      }
    } catch (thrown) {
      const { code, message } = asParavaneError(thrown);
      throw new ParavaneError(code, `the passphrase could not be read: ${message}`, {}, { cause: thrown });
    }
  }
}
