// How qemu-img names the encryption of a new image, and how we do.
import { UsageError } from "../../usage.ts";
import type { Secrets } from "./secrets.ts";

/** Of qcow2 with "encrypt." before them. */
export const LUKS_OPTIONS: Record<string, string> = {
  "key-secret": "the id of the secret with the passphrase",
  "cipher-alg": "aes-256 (default), aes-192 or aes-128",
  "cipher-mode": "xts (default) or cbc",
  "ivgen-alg": "plain64 (default), plain or essiv",
  "ivgen-hash-alg": "sha256, for essiv",
  "hash-alg": "sha256 (default), sha512, sha1 or ripemd160",
  "iter-time": "milliseconds that trying a passphrase is to take (default 2000)",
};

/**
 * The format's own options with those for encryption as the format takes them.
 * @param secrets null: nothing is going to be encrypted, so that no passphrase is needed @throws UsageError
 */
export function encrypted(
  format: string,
  options: Record<string, unknown>,
  secrets: Secrets | null,
): Record<string, unknown> {
  const prefix = format === "luks" ? "" : "encrypt.";
  const rest: Record<string, unknown> = {};
  const asked: Record<string, string> = {};
  for (const [name, value] of Object.entries(options)) {
    const own = name.startsWith(prefix) ? name.slice(prefix.length) : undefined;
    if (own !== undefined && (own === "format" || own in LUKS_OPTIONS)) asked[own] = String(value);
    else rest[name] = value;
  }
  if (format !== "luks" && Object.keys(asked).length === 0) return rest;
  if (format !== "luks" && asked.format !== "luks") {
    throw new UsageError(
      asked.format === undefined
        ? "encryption needs encrypt.format=luks"
        : `encrypt.format is luks, not "${asked.format}": anything else is too weak to be made`,
    );
  }
  const passphrase = secrets?.passphrase(asked["key-secret"]);
  if (secrets && !passphrase) throw new UsageError(`Parameter '${prefix}key-secret' is required for cipher`);
  const luks = luksOptions(asked);
  const key = passphrase && { passphrase };
  return format === "luks" ? { ...rest, ...luks, ...key } : { ...rest, encryption: luks, ...key };
}

function luksOptions(asked: Record<string, string>): Record<string, unknown> {
  const { "cipher-alg": alg = "aes-256", "cipher-mode": mode = "xts", "ivgen-alg": iv = "plain64" } = asked;
  const bits = /^aes-(128|192|256)$/.exec(alg)?.[1];
  if (bits === undefined) throw new UsageError(`cipher-alg is aes-128, aes-192 or aes-256, not "${alg}"`);
  const hash = iv === "essiv" ? `:${asked["ivgen-hash-alg"] ?? "sha256"}` : "";
  return {
    cipher: `aes-${mode}-${iv}${hash}`,
    keySize: Number(bits) * (mode === "xts" ? 2 : 1),
    ...(asked["hash-alg"] === undefined ? {} : { hash: asked["hash-alg"] }),
    ...(asked["iter-time"] === undefined ? {} : { iterTime: Number(asked["iter-time"]) }),
  };
}
