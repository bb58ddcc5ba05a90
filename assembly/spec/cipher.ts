// The cipher context: what one key needs to encrypt sectors in place. Read by both compilers. Little-endian; the host lays it
// out (src/wasm/cipher.ts).
//
//   ctx ┌───────────────────────────────────────────────────────┐
//       │ mode, bytes of a sector, rounds of both keys, mask    │
//       ├───────────────────────────────────────────────────────┤
//       │ round keys: encryption · decryption · second key      │  60 words at most each (FIPS 197, 5.2)
//       ├───────────────────────────────────────────────────────┤
//       │ S-box and column mixing in one: 4 tables each way     │  made by `cipherTables`
//       │ S-box · inverse S-box                                 │
//       └───────────────────────────────────────────────────────┘ CipherField.Size

/** How the blocks of a sector hang together, and how its number becomes their start. */
export const enum CipherMode {
  /** XTS (IEEE 1619): the second key encrypts the sector's number. */
  Xts = 0,
  /** CBC that starts with the sector's number, little-endian ("plain64"). */
  CbcPlain = 1,
  /** CBC that starts with that number encrypted with the second key ("ESSIV"). */
  CbcEssiv = 2,
}

export const enum CipherKey {
  Data = 0,
  /** Of XTS, or of ESSIV. */
  Second = 1,
}

export const enum CipherField {
  /** CipherMode. */
  Mode = 0,
  /** Bytes that are encrypted together: a multiple of 16. */
  SectorBytes = 4,
  Rounds = 8,
  SecondRounds = 12,
  /** 64 bits: what of a sector's number enters. */
  NumberMask = 16,
  Encrypt = 32,
  Decrypt = 272,
  Second = 512,
  /** 256 words, and the same rotated by 8, 16 and 24 bits. */
  EncryptTables = 768,
  DecryptTables = 4864,
  SBox = 8960,
  InverseSBox = 9216,
  Size = 9472,
}
