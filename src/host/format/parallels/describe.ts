import { SECTOR } from "./header.ts";
import type { ParallelsLayout } from "./layout.ts";

export function describeParallels({ header, blockSize, size }: ParallelsLayout): Record<string, unknown> {
  return {
    format: "parallels",
    size,
    clusterSize: blockSize,
    subformat: header.extended ? "expanding" : "expanding, 32-bit",
    dirty: header.inUse,
    geometry: header.geometry,
    tableEntries: header.entries,
    dataOffset: header.dataOffset * SECTOR,
    ...(header.flags !== 0 && { flags: header.flags }),
    ...(header.extension !== 0n && { formatExtension: Number(header.extension) * SECTOR }),
  };
}
