import { type Block, type BlockRequest, Op, Status } from "../../../core/block.ts";
import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import { type Flow, type Later, run, wait } from "../../../core/flow.ts";
import { ExtentKind, MapStop, type OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read } from "../io.ts";
import { Missing } from "../lookup/pages.ts";
import { ParallelsImage } from "../parallels/image.ts";
import { openParallels } from "../parallels/index.ts";
import type { LookedParallels } from "../parallels/lookup.ts";
import { Scatter } from "../scatter.ts";
import type { Descriptor, Layer, Storage } from "./descriptor.ts";

/** Files that are open at once, at most. */
const MAX_FILES = 200;
/** Clusters of an expanding disk that are looked up at once. */
const CLUSTERS = 64;

export interface OpenLayer extends Layer {
  /** Among all files. */
  number: number;
  store: Store;
  /** Of an expanding disk. */
  image?: ParallelsImage | LookedParallels;
}
export interface OpenStorage extends Storage {
  layers: readonly OpenLayer[];
}

/** Where bytes of a part of the disk are: in one of its layers, or nowhere. */
export interface Place {
  length: number;
  layer?: OpenLayer;
  position?: number;
}

/** What the layers from number `first` on have from `offset` of their storage on. @throws Missing, ParavaneError */
export function placeIn({ layers }: OpenStorage, first: number, offset: number, wanted: number): Place {
  let length = wanted;
  for (const layer of layers.slice(first)) {
    const part = ownPart(layer, offset, length);
    length = part.length;
    if (part.position !== undefined) return { ...part, layer };
  }
  return { length };
}

/** What the layer holds itself from `offset` on: a place, or none for the whole of the length. @throws Missing, ParavaneError */
function ownPart({ store, image, number }: OpenLayer, offset: number, length: number): Omit<Place, "layer"> {
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

/** What a storage held before its newest layer, which new clusters of that one are completed from. */
class Below implements Block {
  readonly sectorSize = 512;
  readonly readOnly = true;
  readonly copied = 0;
  readonly size: number;
  readonly #storage: OpenStorage;

  constructor(storage: OpenStorage) {
    this.#storage = storage;
    this.size = storage.to - storage.from;
  }

  submit(requests: readonly BlockRequest[]): Later<void> {
    return run(this.#serve(requests));
  }
  close(): void {}

  *#serve(requests: readonly BlockRequest[]): Flow {
    for (const request of requests) {
      if (request.op !== Op.Read) throw new RangeError("what was before is only read");
      try {
        yield* this.#read(request);
        request.status = Status.Ok;
      } catch (thrown) {
        request.error = asParavaneError(thrown);
        request.status = Status.Media;
      }
    }
  }

  *#read({ offset, length, memory, segments }: BlockRequest): Flow {
    const scatter = new Scatter(memory, segments);
    for (let done = 0; done < length; ) {
      const { layer, position, length: part } = yield* this.#place(offset + done, length - done);
      scatter.put(done, layer ? yield* read(layer.store, position!, part) : new Uint8Array(part));
      done += part;
    }
  }

  *#place(offset: number, length: number): Flow<Place> {
    for (;;) {
      try {
        return placeIn(this.#storage, 1, offset, length);
      } catch (thrown) {
        if (!(thrown instanceof Missing)) throw thrown;
        const layer = this.#storage.layers.find(({ number }) => number === thrown.page)!;
        yield* layer.image!.load();
      }
    }
  }
}

/** Opens the files, the newest ones for writing unless all is only read. `opened` has them whatever happens. */
export function* openLayers(
  store: Store,
  { storages }: Descriptor,
  { openFile, onWarning, readOnly = store.readOnly }: OpenOptions,
  opened: Store[],
): Flow<OpenStorage[]> {
  const list: OpenStorage[] = [];
  for (const storage of storages) {
    const layers: OpenLayer[] = [];
    for (const [depth, layer] of storage.layers.entries()) {
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
      const file = yield* wait(openFile(layer.file, readOnly || depth > 0));
      const again = opened.some((other) => other === file || (file.identity && other.identity === file.identity));
      const number = opened.push(file) - 1;
      if (again) throw corrupt(store, "Image", 0, `names ${layer.file}, which is in another place already`);
      const image = layer.plain ? undefined : yield* openParallels(file, onWarning ? { onWarning } : {});
      layers.push({ ...layer, number, store: file, ...(image && { image }) });
    }
    const made = { ...storage, layers };
    const [{ image }] = layers;
    if (layers.length > 1 && image instanceof ParallelsImage) image.attach(new Below(made));
    list.push(made);
  }
  return list;
}
