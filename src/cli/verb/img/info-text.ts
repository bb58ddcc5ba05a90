import { printable } from "../../../core/printable.ts";
import type { Facts } from "./info.ts";
import { shortSize, snapshotTable } from "./snapshots.ts";

/** The form for people, qemu-img's lines first. */
export function infoText(facts: Facts): string {
  const parent = facts["backing-filename"];
  const full = facts["full-backing-filename"];
  const rows: [string, unknown][] = [
    ["image", facts.filename],
    ["file format", facts.format],
    ["virtual size", `${shortSize(facts["virtual-size"])} (${facts["virtual-size"]} bytes)`],
    ["disk size", shortSize(facts["actual-size"])],
    ["encrypted", facts.encrypted ? "yes" : undefined],
    ["cleanly shut down", facts["dirty-flag"] ? "no" : undefined],
    ["cluster_size", facts["cluster-size"]],
    ["backing file", parent === full || parent === undefined ? parent : `${parent} (actual path: ${full})`],
    ["backing file format", facts["backing-filename-format"]],
  ];
  const lines = rows.flatMap(([name, value]) => (value === undefined ? [] : `${name}: ${printable(String(value))}`));
  if (facts.snapshots) {
    const list = facts.snapshots.map((one) => ({
      id: one.id,
      name: one.name,
      date: one["date-sec"] * 1000,
      stateSize: one["vm-state-size"],
      ...(one.icount !== undefined && { instructions: BigInt(one.icount) }),
      clock: BigInt(one["vm-clock-sec"]) * 1000000000n + BigInt(one["vm-clock-nsec"]),
    }));
    lines.push(snapshotTable(list));
  }
  const specific = Object.entries({ ...facts["format-specific"]?.data, ...facts.paravane });
  if (specific.length > 0) lines.push("Format specific information:");
  for (const [name, value] of specific) lines.push(...nested(name, value, 1));
  return lines.join("\n");
}

/** A list of objects as qemu-img shows it; everything else in a line. */
function nested(name: string, value: unknown, depth: number): string[] {
  const indent = "    ".repeat(depth);
  if (!Array.isArray(value) || value.some((item) => typeof item !== "object" && depth === 1)) {
    return [`${indent}${wordsOf(name)}: ${textOf(value)}`];
  }
  const lines = [`${indent}${wordsOf(name)}:`];
  for (const [i, item] of value.entries()) {
    if (typeof item !== "object" || item === null) lines.push(`${indent}    [${i}]: ${textOf(item)}`);
    else {
      lines.push(`${indent}    [${i}]:`);
      for (const [key, inner] of Object.entries(item)) lines.push(...nested(key, inner, depth + 2));
    }
  }
  return lines;
}

/** "data-file-raw", "creatorVersion": words. */
function wordsOf(name: string): string {
  return name.replaceAll("-", " ").replaceAll(/[A-Z]+/g, (letters) => ` ${letters.toLowerCase()}`);
}

function textOf(value: unknown): string {
  return printable(typeof value === "object" && value !== null ? JSON.stringify(value) : String(value));
}
