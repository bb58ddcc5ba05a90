// GUIDs as Microsoft lays them out: three little-endian fields (4, 2, 2 bytes), then 8 bytes in order (MS-DTYP 2.3.4.2).

const GUID_BYTES = 16;
export const NO_GUID = "00000000-0000-0000-0000-000000000000";

/** Which byte comes next in the text. */
const ORDER = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

/** The GUID at `at`, as lower-case text. */
export function guidAt(bytes: Uint8Array, at: number): string {
  const hex = ORDER.map((index) => bytes[at + index].toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export function putGuid(bytes: Uint8Array, at: number, guid: string): void {
  const hex = guid.replaceAll("-", "");
  ORDER.forEach((index, i) => {
    bytes[at + index] = Number.parseInt(hex.slice(i * 2, i * 2 + 2), 16);
  });
}

/** Random, version 4. */
export function newGuid(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(GUID_BYTES));
  bytes[7] = (bytes[7] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return guidAt(bytes, 0);
}
