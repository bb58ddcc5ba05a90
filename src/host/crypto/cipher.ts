import { ParavaneError } from "../../core/error.ts";
import { SectorCipher } from "../../wasm/cipher.ts";
import { hashNamed } from "./hash.ts";

/** How data is encrypted, in dm-crypt's words: "aes-xts-plain64". */
export interface CipherSpec {
  /** "aes". */
  name: string;
  /** "xts-plain64". */
  mode: string;
}

/** What is known of the modes: how many keys the key is, and how the sector's number enters. */
const MODES: Record<string, { mode: "xts" | "cbc-plain" | "cbc-essiv"; halves: boolean; narrow?: boolean }> = {
  "xts-plain64": { mode: "xts", halves: true },
  "xts-plain": { mode: "xts", halves: true, narrow: true },
  "cbc-plain64": { mode: "cbc-plain", halves: false },
  "cbc-plain": { mode: "cbc-plain", halves: false, narrow: true },
  "cbc-essiv:sha256": { mode: "cbc-essiv", halves: false },
};

const CIPHER_MODES = Object.keys(MODES);

/** "aes-xts-plain64", in parts. */
export function parseCipher(text: string): CipherSpec {
  const dash = text.indexOf("-");
  return dash < 0 ? { name: text, mode: "" } : { name: text.slice(0, dash), mode: text.slice(dash + 1) };
}

/** @throws ParavaneError UNSUPPORTED when there is no such cipher here, or none with such a key */
export function checkCipher({ name, mode }: CipherSpec, keyBytes: number): void {
  const known = name === "aes" && Object.hasOwn(MODES, mode) ? MODES[mode] : undefined;
  if (!known) {
    const hint = `Known: ${CIPHER_MODES.map((each) => `aes-${each}`).join(", ")}`;
    throw new ParavaneError("UNSUPPORTED", `the cipher ${name}-${mode} is not known`, {}, { hint });
  }
  const sizes = known.halves ? [32, 48, 64] : [16, 24, 32];
  if (sizes.includes(keyBytes)) return;
  const hint = `It takes keys of ${sizes.map((size) => size * 8).join(" or ")} bits`;
  throw new ParavaneError(
    "UNSUPPORTED",
    `there is no ${name}-${mode} with a key of ${keyBytes * 8} bits`,
    {},
    { hint },
  );
}

/** A cipher with that key, which stays the caller's. @throws ParavaneError UNSUPPORTED */
export async function makeCipher(spec: CipherSpec, key: Uint8Array, sectorBytes = 512): Promise<SectorCipher> {
  checkCipher(spec, key.length);
  const { mode, halves, narrow = false } = MODES[spec.mode];
  const half = key.length / 2;
  if (halves) {
    return new SectorCipher({ mode, key: key.subarray(0, half), second: key.subarray(half), sectorBytes, narrow });
  }
  if (mode !== "cbc-essiv") return new SectorCipher({ mode, key, sectorBytes, narrow });
  const second = await (await hashNamed("sha256")).digest(key);
  try {
    return new SectorCipher({ mode, key, second, sectorBytes });
  } finally {
    second.fill(0);
  }
}
