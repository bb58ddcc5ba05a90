/** Scan code set 1 of a US keyboard: each row's keys from its first code on. */
const ROWS: readonly [first: number, plain: string, shifted: string][] = [
  [0x01, "\x1b1234567890-=\x7f\t", "\x1b!@#$%^&*()_+\x7f\t"],
  [0x10, "qwertyuiop[]\r", "QWERTYUIOP{}\r"],
  [0x1e, "asdfghjkl;'`", 'ASDFGHJKL:"~'],
  [0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"],
  [0x39, " ", " "],
];
const SHIFT = 0x2a;
const CONTROL = 0x1d;
const RELEASED = 0x80;

/** The key presses that make a typed byte; none for one that no key makes. */
export function scanCodes(byte: number): number[] {
  const character = byte === 10 || byte === 8 ? (byte === 10 ? "\r" : "\x7f") : String.fromCharCode(byte);
  for (const [first, plain, shifted] of ROWS) {
    const at = plain.indexOf(character);
    if (at >= 0) return press(first + at);
    const over = shifted.indexOf(character);
    if (over >= 0) return [SHIFT, ...press(first + over), SHIFT | RELEASED];
  }
  if (byte < 1 || byte > 26) return [];
  return [CONTROL, ...scanCodes(byte + 96), CONTROL | RELEASED];
}

function press(code: number): number[] {
  return [code, code | RELEASED];
}
