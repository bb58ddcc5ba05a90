// The descriptor of a virtual machine (DMTF DSP0243, Open Virtualization Format), as far as it says which files are disks.
import { type Element, parseXml } from "../xml.ts";

/** Files of disks, in the descriptor's order. */
export interface OvfDisk {
  file: string;
  /** "gzip", or such: the file is packed. */
  compression?: string;
  /** It is in several pieces. */
  pieces: boolean;
}

/** @throws RangeError when it is no OVF descriptor */
export function ovfDisks(text: string): OvfDisk[] {
  const root = parseXml(text);
  if (local(root.name) !== "Envelope") throw new RangeError(`it is of <${root.name}>`);
  const below = (parents: Element[], name: string) =>
    parents.flatMap(({ children }) => children.filter((child) => local(child.name) === name));
  const files = new Map(below(below([root], "References"), "File").map((file) => [attribute(file, "id"), file]));
  const disks: OvfDisk[] = [];
  for (const disk of below(below([root], "DiskSection"), "Disk")) {
    // A disk without a file is empty.
    const file = files.get(attribute(disk, "fileRef"));
    const href = file && attribute(file, "href");
    if (!file || href === undefined) continue;
    const compression = attribute(file, "compression");
    const pieces = attribute(file, "chunkSize") !== undefined;
    disks.push({ file: href, pieces, ...(compression !== undefined && { compression }) });
  }
  return disks;
}

const local = (name: string): string => name.slice(name.lastIndexOf(":") + 1);

function attribute({ attributes }: Element, name: string): string | undefined {
  for (const [key, value] of attributes) if (local(key) === name && !key.startsWith("xmlns")) return value;
  return undefined;
}
