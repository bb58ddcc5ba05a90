import { PciCommon, VirtioPciVector } from "../../../../assembly/spec/virtio.ts";
import type { Width } from "../../../core/machine.ts";
import type { VirtioTransport } from "./transport.ts";

/** A field of the common configuration structure (VIRTIO 1.2 §4.1.4.3); one that has no `write` is read-only. */
interface Field {
  at: PciCommon;
  bytes: Width;
  read(t: VirtioTransport): number;
  write?(t: VirtioTransport, value: number): void;
}

/** One half of a queue part's address. */
function address(at: PciCommon, half: "low" | "high", part: "descriptors" | "available" | "used"): Field {
  return {
    at,
    bytes: 4,
    read: (t) => t.queue?.[half][part] ?? 0,
    write: (t, value) =>
      t.configureQueue((queue) => {
        queue[half][part] = value;
      }),
  };
}

const FIELDS: readonly Field[] = [
  {
    at: PciCommon.DeviceFeatureSelect,
    bytes: 4,
    read: (t) => t.featuresSelect,
    write: (t, value) => {
      t.featuresSelect = value;
    },
  },
  { at: PciCommon.DeviceFeature, bytes: 4, read: (t) => t.deviceFeatures },
  {
    at: PciCommon.DriverFeatureSelect,
    bytes: 4,
    read: (t) => t.driverFeaturesSelect,
    write: (t, value) => {
      t.driverFeaturesSelect = value;
    },
  },
  {
    at: PciCommon.DriverFeature,
    bytes: 4,
    read: (t) => t.driverFeatures,
    write: (t, value) => {
      t.driverFeatures = value;
    },
  },
  { at: PciCommon.ConfigVector, bytes: 2, read: () => VirtioPciVector.None },
  { at: PciCommon.Queues, bytes: 2, read: (t) => t.device.queueSizes.length },
  { at: PciCommon.Status, bytes: 1, read: (t) => t.status, write: (t, value) => t.writeStatus(value) },
  { at: PciCommon.Generation, bytes: 1, read: (t) => t.generation & 0xff },
  {
    at: PciCommon.QueueSelect,
    bytes: 2,
    read: (t) => t.queueSelect,
    write: (t, value) => {
      t.queueSelect = value;
    },
  },
  {
    at: PciCommon.QueueSize,
    bytes: 2,
    // §4.1.4.3.1: 0 says that there is no such queue; a reset puts the largest size back.
    read: (t) => t.queue?.size ?? 0,
    write: (t, value) =>
      t.configureQueue((queue) => {
        queue.size = value;
      }),
  },
  { at: PciCommon.QueueVector, bytes: 2, read: () => VirtioPciVector.None },
  {
    at: PciCommon.QueueEnable,
    bytes: 2,
    read: (t) => (t.queueReady ? 1 : 0),
    // §4.1.4.3.2: the driver must not write 0; nothing comes of it.
    write: (t, value) => {
      if (value === 1) t.queueReady = true;
    },
  },
  { at: PciCommon.QueueNotifyOffset, bytes: 2, read: () => 0 },
  address(PciCommon.QueueDescriptorsLow, "low", "descriptors"),
  address(PciCommon.QueueDescriptorsHigh, "high", "descriptors"),
  address(PciCommon.QueueDriverLow, "low", "available"),
  address(PciCommon.QueueDriverHigh, "high", "available"),
  address(PciCommon.QueueDeviceLow, "low", "used"),
  address(PciCommon.QueueDeviceHigh, "high", "used"),
];

/** The field at each byte. */
const AT: readonly Field[] = FIELDS.flatMap((field) => new Array<Field>(field.bytes).fill(field));

export function readCommon(t: VirtioTransport, offset: number, width: Width): number {
  const field = AT[offset];
  if (field.at === offset && field.bytes === width) return field.read(t);
  let value = 0;
  for (let i = width - 1; i >= 0; i--) {
    const each = AT[offset + i];
    const byte = each ? (each.read(t) >>> (8 * (offset + i - each.at))) & 0xff : 0;
    value = value * 256 + byte;
  }
  return value;
}

/** A narrower access changes part of a field, a wider one several, from the lowest on. */
export function writeCommon(t: VirtioTransport, offset: number, width: Width, value: number): void {
  for (let at = offset; at < offset + width; ) {
    const field = AT[at];
    if (!field) return;
    const first = at - field.at;
    const last = Math.min(field.bytes, offset + width - field.at);
    let merged = first === 0 && last === field.bytes ? 0 : field.read(t);
    for (let byte = first; byte < last; byte++) {
      const bits = (value >>> (8 * (field.at + byte - offset))) & 0xff;
      merged = ((merged & ~(0xff << (8 * byte))) | (bits << (8 * byte))) >>> 0;
    }
    field.write?.(t, merged);
    at = field.at + last;
  }
}
