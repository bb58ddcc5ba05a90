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
    ["cleanly shut down", facts["dirty-flag"] ? "no" : undefined],
    ["cluster_size", facts["cluster-size"]],
    ["backing file", parent === full || parent === undefined ? parent : `${parent} (actual path: ${full})`],
    ["backing file format", facts["backing-filename-format"]],
  ];
  const lines = rows.flatMap(([name, value]) => (value === undefined ? [] : `${name}: ${value}`));
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
  lines.push(...specific.map(([name, value]) => `    ${wordsOf(name)}: ${textOf(value)}`));
  return lines.join("\n");
}

/** "data-file-raw", "creatorVersion": words. */
function wordsOf(name: string): string {
  return name.replaceAll("-", " ").replaceAll(/[A-Z]+/g, (letters) => ` ${letters.toLowerCase()}`);
}

function textOf(value: unknown): string {
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}
