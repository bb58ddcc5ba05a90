import { UsageError } from "./usage.ts";

const UNITS: Record<string, number> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** "4K", "256M", "1.5GiB", "512": bytes. Units are powers of 1024. @throws UsageError */
export function parseSize(text: string, option: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?$/i.exec(text.trim()) ?? [];
  const value = Number(digits) * UNITS[unit?.toLowerCase() ?? ""];
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new UsageError(`--${option} "${text}" is not a size; write bytes, or a number with K, M, G or T, such as 256M`);
}

/** "1,32": whole numbers. @throws UsageError */
export function parseNumber(text: string, option: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value) && value >= 0) return value;
  throw new UsageError(`--${option} "${text}" is not a number`);
}

/** "a,b": its parts. @throws UsageError when one is empty */
export function parseList(text: string, option: string): string[] {
  const parts = text.split(",").map((part) => part.trim());
  if (parts.every((part) => part !== "")) return parts;
  throw new UsageError(`--${option} "${text}" is not a list; write the items with a comma between`);
}
