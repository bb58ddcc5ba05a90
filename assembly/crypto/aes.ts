// AES (FIPS 197) by tables: a round is 16 loads and as many XORs. A word holds a column, its first byte lowest.
//
// The tables are looked up by what is secret, so who measures this processor's cache from another process may learn of the
// key; who can do that here runs in the same process, where the key lies in memory.
import { CipherField, CipherKey } from "../spec/cipher";

/** Twice a number of the field (4.2.1). */
function twice(x: u32): u32 {
  return ((x << 1) ^ ((x >> 7) * 0x11b)) & 0xff;
}

function word(a: u32, b: u32, c: u32, d: u32): u32 {
  return a | (b << 8) | (c << 16) | (d << 24);
}

/** Fills in the tables of a context. They are computed, since the core has no data of its own. */
export function cipherTables(ctx: usize): void {
  const sbox = ctx + CipherField.SBox;
  const inverse = ctx + CipherField.InverseSBox;
  // p runs through all numbers of the field but 0, as powers of 3; q through their inverses (5.1.1).
  let p: u32 = 1;
  let q: u32 = 1;
  do {
    p = (p ^ twice(p)) & 0xff;
    q = (q ^ (q << 1)) & 0xff;
    q = (q ^ (q << 2)) & 0xff;
    q = (q ^ (q << 4)) & 0xff;
    if (q & 0x80) q ^= 0x09;
    const spread = q * 0x101;
    const x = (q ^ (spread >> 7) ^ (spread >> 6) ^ (spread >> 5) ^ (spread >> 4) ^ 0x63) & 0xff;
    store<u8>(sbox + p, <u8>x);
  } while (p !== 1);
  store<u8>(sbox, 0x63);
  for (let i: u32 = 0; i < 256; i++) store<u8>(inverse + load<u8>(sbox + i), <u8>i);

  for (let i: u32 = 0; i < 256; i++) {
    const s = <u32>load<u8>(sbox + i);
    const s2 = twice(s);
    const r = <u32>load<u8>(inverse + i);
    const r2 = twice(r);
    const r4 = twice(r2);
    const r8 = twice(r4);
    let mixed = word(s2, s, s, s2 ^ s);
    let unmixed = word(r8 ^ r4 ^ r2, r8 ^ r, r8 ^ r4 ^ r, r8 ^ r2 ^ r);
    for (let table: u32 = 0; table < 4; table++) {
      store<u32>(ctx + CipherField.EncryptTables + table * 1024 + i * 4, mixed);
      store<u32>(ctx + CipherField.DecryptTables + table * 1024 + i * 4, unmixed);
      mixed = rotl<u32>(mixed, 8);
      unmixed = rotl<u32>(unmixed, 8);
    }
  }
}

function substituted(ctx: usize, x: u32): u32 {
  const sbox = ctx + CipherField.SBox;
  return word(
    load<u8>(sbox + (x & 0xff)),
    load<u8>(sbox + ((x >> 8) & 0xff)),
    load<u8>(sbox + ((x >> 16) & 0xff)),
    load<u8>(sbox + (x >> 24)),
  );
}

/** Expands a key of 16, 24 or 32 bytes (5.2); the tables come first. */
export function cipherKey(ctx: usize, which: u32, key: usize, bytes: u32): void {
  const schedule = ctx + (which === CipherKey.Data ? CipherField.Encrypt : CipherField.Second);
  const words = bytes >> 2;
  const rounds = words + 6;
  store<u32>(ctx + (which === CipherKey.Data ? CipherField.Rounds : CipherField.SecondRounds), rounds);
  for (let i: u32 = 0; i < words; i++) store<u32>(schedule + i * 4, load<u32>(key + i * 4));
  let constant: u32 = 1;
  for (let i = words; i < (rounds + 1) * 4; i++) {
    let x = load<u32>(schedule + (i - 1) * 4);
    const place = i % words;
    if (place === 0) {
      x = substituted(ctx, rotr<u32>(x, 8)) ^ constant;
      constant = twice(constant);
    } else if (words > 6 && place === 4) x = substituted(ctx, x);
    store<u32>(schedule + i * 4, load<u32>(schedule + (i - words) * 4) ^ x);
  }
  if (which !== CipherKey.Data) return;
  // Of the equivalent inverse cipher (5.3.5): backwards, columns unmixed but for the first and the last round.
  const reverse = ctx + CipherField.Decrypt;
  const tables = ctx + CipherField.DecryptTables;
  for (let round: u32 = 0; round <= rounds; round++) {
    for (let i: u32 = 0; i < 4; i++) {
      let x = load<u32>(schedule + ((rounds - round) * 4 + i) * 4);
      if (round !== 0 && round !== rounds) {
        const s = substituted(ctx, x);
        x =
          load<u32>(tables + (s & 0xff) * 4) ^
          load<u32>(tables + 1024 + ((s >> 8) & 0xff) * 4) ^
          load<u32>(tables + 2048 + ((s >> 16) & 0xff) * 4) ^
          load<u32>(tables + 3072 + (s >> 24) * 4);
      }
      store<u32>(reverse + (round * 4 + i) * 4, x);
    }
  }
}

function column(tables: usize, a: u32, b: u32, c: u32, d: u32): u32 {
  return (
    load<u32>(tables + ((a & 0xff) << 2)) ^
    load<u32>(tables + ((b >> 6) & 0x3fc), 1024) ^
    load<u32>(tables + ((c >> 14) & 0x3fc), 2048) ^
    load<u32>(tables + ((d >> 22) & 0x3fc), 3072)
  );
}

function lastColumn(box: usize, a: u32, b: u32, c: u32, d: u32): u32 {
  return word(
    load<u8>(box + (a & 0xff)),
    load<u8>(box + ((b >> 8) & 0xff)),
    load<u8>(box + ((c >> 16) & 0xff)),
    load<u8>(box + (d >> 24)),
  );
}

/** Encrypts the block at `at` in place, with the schedule at `keys` (5.1). */
export function encryptBlock(ctx: usize, keys: usize, rounds: u32, at: usize): void {
  const tables = ctx + CipherField.EncryptTables;
  let a = load<u32>(at) ^ load<u32>(keys);
  let b = load<u32>(at, 4) ^ load<u32>(keys, 4);
  let c = load<u32>(at, 8) ^ load<u32>(keys, 8);
  let d = load<u32>(at, 12) ^ load<u32>(keys, 12);
  for (let round: u32 = 1; round < rounds; round++) {
    keys += 16;
    const e = column(tables, a, b, c, d) ^ load<u32>(keys);
    const f = column(tables, b, c, d, a) ^ load<u32>(keys, 4);
    const g = column(tables, c, d, a, b) ^ load<u32>(keys, 8);
    d = column(tables, d, a, b, c) ^ load<u32>(keys, 12);
    a = e;
    b = f;
    c = g;
  }
  const box = ctx + CipherField.SBox;
  keys += 16;
  store<u32>(at, lastColumn(box, a, b, c, d) ^ load<u32>(keys));
  store<u32>(at, lastColumn(box, b, c, d, a) ^ load<u32>(keys, 4), 4);
  store<u32>(at, lastColumn(box, c, d, a, b) ^ load<u32>(keys, 8), 8);
  store<u32>(at, lastColumn(box, d, a, b, c) ^ load<u32>(keys, 12), 12);
}

/** Decrypts the block at `at` in place, with the data key (5.3.5). */
export function decryptBlock(ctx: usize, rounds: u32, at: usize): void {
  const tables = ctx + CipherField.DecryptTables;
  let keys = ctx + CipherField.Decrypt;
  let a = load<u32>(at) ^ load<u32>(keys);
  let b = load<u32>(at, 4) ^ load<u32>(keys, 4);
  let c = load<u32>(at, 8) ^ load<u32>(keys, 8);
  let d = load<u32>(at, 12) ^ load<u32>(keys, 12);
  for (let round: u32 = 1; round < rounds; round++) {
    keys += 16;
    const e = column(tables, a, d, c, b) ^ load<u32>(keys);
    const f = column(tables, b, a, d, c) ^ load<u32>(keys, 4);
    const g = column(tables, c, b, a, d) ^ load<u32>(keys, 8);
    d = column(tables, d, c, b, a) ^ load<u32>(keys, 12);
    a = e;
    b = f;
    c = g;
  }
  const box = ctx + CipherField.InverseSBox;
  keys += 16;
  store<u32>(at, lastColumn(box, a, d, c, b) ^ load<u32>(keys));
  store<u32>(at, lastColumn(box, b, a, d, c) ^ load<u32>(keys, 4), 4);
  store<u32>(at, lastColumn(box, c, b, a, d) ^ load<u32>(keys, 8), 8);
  store<u32>(at, lastColumn(box, d, c, b, a) ^ load<u32>(keys, 12), 12);
}
