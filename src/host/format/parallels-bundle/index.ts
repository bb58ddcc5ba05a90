import { ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind, type Format, MapStop, type OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { JoinedStore } from "../joined.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found } from "../lookup/mapper.ts";
import { Missing } from "../lookup/pages.ts";
import type { ParallelsImage } from "../parallels/image.ts";
import { openParallels } from "../parallels/index.ts";
import type { LookedParallels } from "../parallels/lookup.ts";
import { type Descriptor, isDescriptor, type Layer, readDescriptor, type Storage } from "./descriptor.ts";

/** Files that are open at once, at most. */
const MAX_FILES = 200;
/** Clusters of an expanding disk that are looked up at once. */
const CLUSTERS = 64;

interface OpenLayer extends Layer {
  /** Among all files. */
  number: number;
  store: Store;
  /** Of an expanding disk. */
  image?: ParallelsImage | LookedParallels;
}
interface OpenStorage extends Storage {
  layers: readonly OpenLayer[];
}

/**
 * A disk in several files: parts one after another, and of each part a file for each snapshot, with what was written since the one
 * before.
 */
class BundleImage extends LookupImage {
  readonly format = "parallels-bundle";
  readonly data: JoinedStore;
  readonly #descriptor: Descriptor;
  readonly #storages: readonly OpenStorage[];
  readonly #layers: readonly OpenLayer[];

  constructor(store: Store, descriptor: Descriptor, storages: readonly OpenStorage[]) {
    super(store, descriptor.size);
    this.#descriptor = descriptor;
    this.#storages = storages;
    this.#layers = storages.flatMap(({ layers }) => layers);
    this.data = new JoinedStore(store.name, true, this.#layers.length);
    for (const layer of this.#layers) this.data.add(layer.store);
  }

  find(offset: number): Found {
    const storage = this.#storages.find(({ to }) => offset < to)!;
    let length = storage.to - offset;
    for (const layer of storage.layers) {
      const part = ownPart(layer, offset - storage.from, length);
      length = part.length;
      if (part.position === undefined) continue;
      return { kind: ExtentKind.Data, length, position: layer.number * this.data.window + part.position };
    }
    return { kind: ExtentKind.Zero, length };
  }

  /** Right after a look-up missed: the layer's own map knows which page. */
  override *loadPage(number: number): Flow {
    yield* this.#layers[number].image!.load();
  }

  describe(): Record<string, unknown> {
    const { chain, geometry } = this.#descriptor;
    return {
      format: this.format,
      size: this.size,
      geometry,
      dirty: this.#layers.some(({ image }) => image?.describe().dirty === true),
      states: chain,
      files: this.#layers.map(({ file }) => file),
    };
  }
}

/** What the layer holds itself from `offset` on: a place, or none for the whole of the length. @throws Missing, ParavaneError */
function ownPart(layer: OpenLayer, offset: number, length: number): { length: number; position?: number } {
  const { store, image, number } = layer;
  if (!image) {
    const there = Math.min(length, store.size - offset);
    return there > 0 ? { length: there, position: offset } : { length };
  }
  // A disk that was enlarged since has more than the snapshot before.
  if (offset >= image.size) return { length };
  const { mapper } = image;
  // One extent is used of what is found, so no more than some clusters are asked for.
  mapper.setRange(0, offset, Math.min(length, image.size - offset, image.zeroUnit * CLUSTERS), false);
  const stop = mapper.resolve(1);
  if (mapper.extentCount > 0) {
    const data = mapper.extentKind(0) === ExtentKind.Data;
    return { length: mapper.extentLength(0), ...(data && { position: mapper.extentPosition(0) }) };
  }
  if (stop === MapStop.Corrupt) throw image.fault();
  throw new Missing(number);
}

function* openLayers(
  store: Store,
  { storages }: Descriptor,
  { openFile, onWarning }: OpenOptions,
  opened: Store[],
): Flow<OpenStorage[]> {
  const list: OpenStorage[] = [];
  for (const storage of storages) {
    const layers: OpenLayer[] = [];
    for (const layer of storage.layers) {
      const context = { file: store.name, structure: "Image" };
      if (!openFile) {
        const hint = "Give a function that opens it as `openFile`";
        throw new ParavaneError("NOT_FOUND", `the image keeps data in ${layer.file}, which was not given`, context, {
          hint,
        });
      }
      if (opened.length >= MAX_FILES) {
        throw new ParavaneError("UNSUPPORTED", `the image has more than ${MAX_FILES} files`, context);
      }
      const file = yield* wait(openFile(layer.file, true));
      const number = opened.push(file) - 1;
      const image = layer.plain ? undefined : yield* openParallels(file, onWarning ? { onWarning } : {});
      layers.push({ ...layer, number, store: file, ...(image && { image }) });
    }
    list.push({ ...storage, layers });
  }
  return list;
}

/** Parallels' disk bundles, by their DiskDescriptor.xml: plain, expanding and split disks, with snapshots; read only. */
export const parallelsBundle: Format = {
  name: "parallels-bundle",
  extensions: [],
  probe: (head) => (isDescriptor(head) ? 100 : 0),

  *open(store, options) {
    const descriptor = yield* readDescriptor(store);
    const opened: Store[] = [];
    let image: BundleImage | undefined;
    try {
      image = new BundleImage(store, descriptor, yield* openLayers(store, descriptor, options, opened));
      return image;
    } finally {
      if (!image) for (const file of opened) yield* wait(file.close());
    }
  },
};
