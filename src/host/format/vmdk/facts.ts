import type { Descriptor } from "./descriptor.ts";

/** What is not in the descriptor. */
interface Shown {
  size: number;
  /** Bytes of a grain, where there are grains. */
  unit?: number | undefined;
  dirty: boolean;
  extents: readonly Record<string, unknown>[];
  /** The header's own facts. */
  header?: Record<string, unknown>;
}

/** `Image.describe`, of every subformat. */
export function describeVmdk(descriptor: Descriptor, { size, unit, dirty, extents, header }: Shown) {
  const { createType, cid, parentCid } = descriptor;
  return {
    format: "vmdk",
    size,
    ...(unit !== undefined && { clusterSize: unit }),
    dirty,
    // By qemu-img's names.
    formatSpecific: {
      type: "vmdk",
      data: {
        cid: Number.parseInt(cid, 16),
        "parent-cid": Number.parseInt(parentCid, 16),
        "create-type": createType,
        extents,
      },
    },
    ...header,
    ...ownFacts(descriptor),
  };
}

/** What a descriptor says that qemu-img does not show. */
function ownFacts({ data, changeTracking }: Descriptor): Record<string, unknown> {
  const facts = {
    geometry: geometry(data, ["cylinders", "heads", "sectors"]),
    biosGeometry: geometry(data, ["biosCylinders", "biosHeads", "biosSectors"]),
    adapterType: data.adapterType,
    hwVersion: data.virtualHWVersion,
    toolsVersion: data.toolsVersion,
    uuid: data.uuid ?? data["uuid.image"],
    longContentId: data.longContentID,
    thinProvisioned: data.thinProvisioned,
    changeTracking,
  };
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== undefined));
}

function geometry(data: Record<string, string>, names: readonly [string, string, string]) {
  const [cylinders, heads, sectors] = names.map((name) => Number(data[`geometry.${name}`]));
  return [cylinders, heads, sectors].every(Number.isSafeInteger) ? { cylinders, heads, sectors } : undefined;
}
