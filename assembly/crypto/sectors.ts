// Whole sectors in place: XTS and CBC over AES.
import { CipherField, CipherMode } from "../spec/cipher";
import { decryptBlock, encryptBlock } from "./aes";

/**
 * Encrypts or decrypts `length` bytes from `at` on, whole sectors of the context's. The first one's number is `number`, in
 * units of 512 bytes, as are all numbers that become initialisation vectors here. The 16 bytes at `scratch` are overwritten.
 */
export function cipherSectors(ctx: usize, at: usize, length: u32, number: f64, decrypt: bool, scratch: usize): void {
  const bytes = load<u32>(ctx, CipherField.SectorBytes);
  const mode = load<u32>(ctx, CipherField.Mode);
  const step = <u64>(bytes >> 9);
  const mask = load<u64>(ctx, CipherField.NumberMask);
  let sector = <u64>number;
  const end = at + length;
  for (; at < end; at += bytes) {
    store<u64>(scratch, sector & mask);
    store<u64>(scratch, 0, 8);
    if (mode !== CipherMode.CbcPlain) {
      encryptBlock(ctx, ctx + CipherField.Second, load<u32>(ctx, CipherField.SecondRounds), scratch);
    }
    const low = load<u64>(scratch);
    const high = load<u64>(scratch, 8);
    if (mode === CipherMode.Xts) xts(ctx, at, bytes, low, high, decrypt);
    else if (decrypt) cbcDecrypt(ctx, at, bytes, low, high);
    else cbcEncrypt(ctx, at, bytes, low, high);
    sector += step;
  }
}

/** IEEE 1619, 5.3 and 5.4; sectors are whole blocks, so that nothing is stolen. */
function xts(ctx: usize, at: usize, bytes: u32, low: u64, high: u64, decrypt: bool): void {
  const rounds = load<u32>(ctx, CipherField.Rounds);
  const keys = ctx + CipherField.Encrypt;
  for (const end = at + bytes; at < end; at += 16) {
    store<u64>(at, load<u64>(at) ^ low);
    store<u64>(at, load<u64>(at, 8) ^ high, 8);
    if (decrypt) decryptBlock(ctx, rounds, at);
    else encryptBlock(ctx, keys, rounds, at);
    store<u64>(at, load<u64>(at) ^ low);
    store<u64>(at, load<u64>(at, 8) ^ high, 8);
    // Times alpha (5.2).
    const carry = high >> 63;
    high = (high << 1) | (low >> 63);
    low = (low << 1) ^ (carry * 0x87);
  }
}

/** NIST SP 800-38A, 6.2. */
function cbcEncrypt(ctx: usize, at: usize, bytes: u32, low: u64, high: u64): void {
  const rounds = load<u32>(ctx, CipherField.Rounds);
  const keys = ctx + CipherField.Encrypt;
  for (const end = at + bytes; at < end; at += 16) {
    store<u64>(at, load<u64>(at) ^ low);
    store<u64>(at, load<u64>(at, 8) ^ high, 8);
    encryptBlock(ctx, keys, rounds, at);
    low = load<u64>(at);
    high = load<u64>(at, 8);
  }
}

function cbcDecrypt(ctx: usize, at: usize, bytes: u32, low: u64, high: u64): void {
  const rounds = load<u32>(ctx, CipherField.Rounds);
  for (const end = at + bytes; at < end; at += 16) {
    const nextLow = load<u64>(at);
    const nextHigh = load<u64>(at, 8);
    decryptBlock(ctx, rounds, at);
    store<u64>(at, load<u64>(at) ^ low);
    store<u64>(at, load<u64>(at, 8) ^ high, 8);
    low = nextLow;
    high = nextHigh;
  }
}
