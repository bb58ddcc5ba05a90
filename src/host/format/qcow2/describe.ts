import type { BitmapInfo } from "../../../core/format.ts";
import { Autoclear, Compatible, CryptMethod, Incompatible } from "./header.ts";
import type { Volume } from "./volume.ts";

/** As `Image.describe`. */
export function describe(
  { header, snapshots }: Volume,
  size: number,
  bitmaps: readonly BitmapInfo[],
  luks?: Record<string, unknown>,
): Record<string, unknown> {
  const v3 = header.version > 2;
  const bit = (feature: bigint) => (header.incompatible & feature) !== 0n;
  return {
    format: "qcow2",
    size,
    clusterSize: 2 ** header.clusterBits,
    dirty: bit(Incompatible.Dirty),
    ...(header.backingFile === undefined ? {} : { backingFile: header.backingFile }),
    ...(header.backingFormat === undefined ? {} : { backingFormat: header.backingFormat }),
    ...(snapshots.length === 0
      ? {}
      : {
          snapshots: snapshots.map(({ id, name, date, clock, stateSize, diskSize }) => ({
            id,
            name,
            date: new Date(date).toISOString(),
            clockSeconds: Number(clock / 1000000n) / 1000,
            stateSize,
            diskSize: diskSize ?? header.size,
          })),
        }),
    ...(header.cryptMethod === CryptMethod.None ? {} : { encrypted: true }),
    // As qemu-img info names them.
    formatSpecific: {
      type: "qcow2",
      data: {
        compat: v3 ? "1.1" : "0.10",
        "compression-type": header.compression,
        "refcount-bits": 2 ** header.refcountOrder,
        ...(v3
          ? {
              "lazy-refcounts": (header.compatible & Compatible.LazyRefcounts) !== 0n,
              ...(bitmaps.length > 0 && { bitmaps: bitmaps.map(bitmapFacts) }),
              corrupt: bit(Incompatible.Corrupt),
              "extended-l2": bit(Incompatible.ExtendedL2),
            }
          : {}),
        ...(header.cryptMethod === CryptMethod.Aes ? { encrypt: { format: "aes" } } : {}),
        ...(luks ? { encrypt: { format: "luks", ...luks } } : {}),
        ...(bit(Incompatible.DataFile)
          ? { "data-file": header.dataFile, "data-file-raw": (header.autoclear & Autoclear.RawDataFile) !== 0n }
          : {}),
      },
    },
  };
}

function bitmapFacts({ name, granularity, recording, inconsistent }: BitmapInfo) {
  return { flags: [...(inconsistent ? ["in-use"] : []), ...(recording ? ["auto"] : [])], name, granularity };
}
