import type { Descriptor } from "./descriptor.ts";

/** What a descriptor says that qemu-img does not show. */
export function ownFacts({ data, changeTracking }: Descriptor): Record<string, unknown> {
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
