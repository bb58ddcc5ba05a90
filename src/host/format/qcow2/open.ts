import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { openEncryption } from "./encryption.ts";
import { type Header, Incompatible, parseClusterBits, parseHeader, SECTOR } from "./header.ts";
import { Qcow2Image } from "./image.ts";
import { read } from "./io.ts";
import { findSnapshot, readSnapshots, type Snapshot } from "./snapshot-table.ts";
import { Volume, type VolumeOptions } from "./volume.ts";

export interface Qcow2OpenOptions extends OpenOptions {
  /** Reads this internal snapshot, by id or name, instead of the disk as it is; for reading only. */
  snapshot?: string;
  /** For work on metadata alone: a data file is not opened. */
  metadataOnly?: boolean;
}

export function* openQcow2(store: Store, options: Qcow2OpenOptions): Flow<Qcow2Image> {
  const { snapshot: wanted, metadataOnly = false, ...rest } = options;
  const writable = !(rest.readOnly ?? store.readOnly) && wanted === undefined;
  const header = yield* readHeader(store);
  const snapshots = yield* readSnapshots(store, header);
  if (writable && !metadataOnly) refuseWriting(store, header);
  if (header.incompatible & Incompatible.Dirty) {
    rest.onWarning?.(`${store.name}: was not closed; its refcounts are repaired before the first write`);
  }
  if (header.incompatible & Incompatible.Corrupt) {
    rest.onWarning?.(`${store.name}: is marked as corrupt; it can be read, but what is read may be wrong`);
  }
  const data = metadataOnly ? undefined : yield* openData(store, header, !writable, rest);
  let opened = false;
  try {
    const image = yield* openVolume(store, header, snapshots, data, writable, options);
    opened = true;
    return image;
  } finally {
    if (!opened && data) yield* wait(data.close());
  }
}

function* openVolume(
  store: Store,
  header: Header,
  snapshots: readonly Snapshot[],
  data: Store | undefined,
  writable: boolean,
  options: Qcow2OpenOptions,
): Flow<Qcow2Image> {
  const { snapshot: wanted, metadataOnly = false, ...rest } = options;
  const { cipher, luks, aes } = metadataOnly ? {} : yield* openEncryption(store, data, header, writable, rest);

  let shown = { size: header.size };
  const volumeOptions: VolumeOptions = { codecs: rest.codecs, cipher };
  if (wanted !== undefined) {
    const found = findSnapshot(store, snapshots, wanted);
    volumeOptions.l1 = { position: found.l1Position, size: found.l1Size };
    shown = { size: Math.floor((found.diskSize ?? header.size) / SECTOR) * SECTOR };
  }
  const reopen = function* (): Flow<Volume> {
    const again = yield* readHeader(store);
    return new Volume(store, data, again, yield* readSnapshots(store, again), volumeOptions);
  };
  const volume = new Volume(store, data, header, snapshots, volumeOptions);
  const image = new Qcow2Image(volume, shown.size, writable, reopen, { luks, aes });
  yield* image.bitmaps.open(metadataOnly ? undefined : rest.onWarning);
  return image;
}

function* readHeader(store: Store) {
  const bits = parseClusterBits(store, yield* read(store, 0, Math.min(SECTOR, store.size)));
  return parseHeader(store, yield* read(store, 0, Math.min(2 ** bits, store.size)));
}

function refuseWriting(store: Store, header: ReturnType<typeof parseHeader>): void {
  if (header.incompatible & Incompatible.Corrupt) {
    throw new ParavaneError(
      "CORRUPT",
      "the image is marked as corrupt and must not be written",
      { file: store.name },
      {
        hint: "Open it read-only, or repair it with a check",
      },
    );
  }
}

function* openData(store: Store, header: ReturnType<typeof parseHeader>, readOnly: boolean, options: OpenOptions) {
  if ((header.incompatible & Incompatible.DataFile) === 0n) return undefined;
  const { openFile } = options;
  if (openFile && header.dataFile !== undefined) return yield* wait(openFile(header.dataFile, readOnly));
  const name = header.dataFile ?? "an unnamed file";
  throw new ParavaneError(
    "NOT_FOUND",
    `the image keeps its data in ${name}, which was not given`,
    { file: store.name },
    {
      hint: "Give a function that opens it as `openFile`",
    },
  );
}
