import { type Flow, wait } from "../../../core/flow.ts";
import { ExtentKind } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt } from "../io.ts";
import { JoinedStore } from "../joined.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found } from "../lookup/mapper.ts";
import { ParallelsImage } from "../parallels/image.ts";
import type { Descriptor } from "./descriptor.ts";
import { type OpenLayer, type OpenStorage, placeIn } from "./layers.ts";

/**
 * A disk in several files: parts one after another, and of each part a file for each snapshot, with what was written since the one
 * before. What is written goes to the newest one.
 */
export class BundleImage extends LookupImage {
  readonly format = "parallels-bundle";
  readonly data: JoinedStore;
  readonly #descriptor: Descriptor;
  readonly #storages: readonly OpenStorage[];
  readonly #layers: readonly OpenLayer[];

  constructor(store: Store, descriptor: Descriptor, storages: readonly OpenStorage[], readOnly: boolean) {
    super(store, descriptor.size);
    this.#descriptor = descriptor;
    this.#storages = storages;
    this.#layers = storages.flatMap(({ layers }) => layers);
    this.data = new JoinedStore(store.name, readOnly, this.#layers.length);
    for (const layer of this.#layers) this.data.add(layer.store);
  }

  override get dirty(): boolean {
    return this.#newest.some(({ dirty }) => dirty);
  }
  get crowded(): boolean {
    return this.#newest.some(({ crowded }) => crowded);
  }
  /** Of the newest files those that grow. */
  get #newest(): ParallelsImage[] {
    return this.#storages.flatMap(({ layers: [{ image }] }) => (image instanceof ParallelsImage ? image : []));
  }

  #at(offset: number): OpenStorage {
    return this.#storages.find(({ to }) => offset < to)!;
  }

  find(offset: number): Found {
    const storage = this.#at(offset);
    const { length, layer, position } = placeIn(storage, 0, offset - storage.from, storage.to - offset);
    if (!layer) return { kind: ExtentKind.Backing, length };
    const kept = layer !== storage.layers[0];
    return { kind: ExtentKind.Data, length, position: layer.number * this.data.window + position!, kept };
  }

  /** Right after a look-up missed: the layer's own map knows which page. */
  override *loadPage(number: number): Flow {
    yield* this.#layers[number].image!.load();
  }

  /** @throws ParavaneError CORRUPT, UNSUPPORTED (one of the newest files is only read) */
  *begin(): Flow {
    for (const { from, to, layers } of this.#storages) {
      const [{ image, store }] = layers;
      if (image && !(image instanceof ParallelsImage)) yield* image.begin();
      if (!image || image.size >= to - from) continue;
      throw corrupt(store, "header", 36, `says ${image.size} bytes, the descriptor ${to - from}: it can only be read`);
    }
    for (const image of this.#newest) yield* image.begin();
  }
  *finish(): Flow {
    for (const image of this.#newest) yield* image.finish();
  }

  override *allocate(offset = 0, length = 0): Flow {
    const { from, to, layers } = this.#at(offset);
    const [{ image, store }] = layers;
    if (image) yield* image.allocate(offset - from, Math.min(length, to - offset));
    // A plain file that ends early.
    else yield* wait(store.resize(to - from));
  }

  override *sync(): Flow {
    for (const [{ image, store }] of this.#storages.map(({ layers }) => layers)) {
      if (!(image instanceof ParallelsImage && image.dirty)) continue;
      yield* image.sync();
      yield* wait(store.flush());
    }
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
