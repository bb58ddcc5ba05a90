import { ParavaneError } from "../../../core/error.ts";
import type { SnapshotInfo } from "../../../core/format.ts";
import { printable } from "../../../core/printable.ts";
import { listSnapshots } from "../../../host/image/snapshot.ts";
import { openNamed, withDisk } from "./open.ts";
import { type Given, type ImgOption, lastOf } from "./options.ts";

export const SNAPSHOT: ImgOption = {
  short: "l",
  value: "SNAPSHOT",
  help: "the disk as it was: an id or name, or snapshot.id=ID,snapshot.name=NAME",
};

/** `-l`, as an option for opening the image. @throws ParavaneError NOT_FOUND */
export async function snapshotOption(
  given: Given,
  file: string,
  format: string | undefined,
): Promise<{ snapshot?: string }> {
  const text = lastOf(given, "l");
  if (text === undefined) return {};
  if (!text.startsWith("snapshot.")) return { snapshot: text };
  const wanted = new Map(text.split(",").map((part) => part.split(/=(.*)/s, 2) as [string, string]));
  const [id, name] = [wanted.get("snapshot.id"), wanted.get("snapshot.name")];
  const options = { ...(format !== undefined && { format }), alone: true, locked: true };
  const list = await withDisk(openNamed(file, options), async (disk) => listSnapshots(disk));
  const found = list.find((one) => (id === undefined || one.id === id) && (name === undefined || one.name === name));
  if (found) return { snapshot: found.id };
  throw new ParavaneError("NOT_FOUND", `Failed to load snapshot: Can't find snapshot ${text}`, { file });
}

/** The table that qemu-img prints. */
export function snapshotTable(list: readonly SnapshotInfo[]): string {
  return [
    "Snapshot list:",
    tableRow("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT"),
    ...list.map(({ id, name, stateSize, date, clock, instructions }) =>
      tableRow(id, name, shortSize(stateSize), dateText(date), clockText(clock), instructions?.toString() ?? ""),
    ),
  ].join("\n");
}

function tableRow(id: string, tag: string, size: string, date: string, clock: string, count: string): string {
  // As qemu-img: what is too long pushes the rest to the right.
  const left = `${printable(id).padEnd(9)} ${printable(tag).padEnd(16)} ${size.padStart(8)}`;
  return `${left}${date.padStart(20)}${clock.padStart(13)}${count.padStart(11)}`;
}

function dateText(milliseconds: number): string {
  const date = new Date(milliseconds);
  const two = (value: number) => String(value).padStart(2, "0");
  return (
    `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  );
}

function clockText(clock: bigint): string {
  const seconds = clock / 1000000000n;
  const two = (value: bigint) => String(value).padStart(2, "0");
  const milliseconds = String((clock / 1000000n) % 1000n).padStart(3, "0");
  return `${two(seconds / 3600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}.${milliseconds}`;
}

/** Three digits, as qemu-img rounds. */
export function shortSize(size: number): string {
  const power = size < 1000 ? 0 : Math.min(6, Math.floor(Math.log2(size / 1000) / 10) + 1);
  return `${Number((size / 1024 ** power).toPrecision(3))} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][power]}`;
}
