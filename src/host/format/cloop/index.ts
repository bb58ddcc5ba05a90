// Compressed loop images, format 2.0 (cloop, compressed_loop.h): a shell script, how many blocks there are of how many bytes, where
// each begins, and the blocks, packed with zlib. Big-endian.
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type Format } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { unzlib } from "../inflate.ts";
import { corrupt, read, textAt } from "../io.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found, Unit } from "../lookup/mapper.ts";
import { checkUnits } from "../lookup/unit-check.ts";

const MAGIC = "#!/bin/sh\n#V2.0 Format\n";
const HEADER_BYTES = 136;
/** QEMU's limit. */
const MAX_BLOCK = 2 ** 26;
const OFFSETS = "block offsets";

interface Layout {
  store: Store;
  blockBytes: number;
  blocks: number;
}

/** @throws ParavaneError CORRUPT, naming the structure and its offset */
function* readLayout(store: Store): Flow<Layout> {
  if (store.size < HEADER_BYTES) throw corrupt(store, "header", 0, `does not fit ${store.size} bytes`);
  const head = yield* read(store, 0, HEADER_BYTES);
  if (textAt(head, 0, MAGIC.length) !== MAGIC) throw corrupt(store, "header", 0, "has no magic");
  const view = new DataView(head.buffer);
  const [blockBytes, blocks] = [view.getUint32(128), view.getUint32(132)];
  if (blockBytes === 0 || blockBytes % 512 !== 0 || blockBytes > MAX_BLOCK) {
    throw corrupt(store, "header", 128, `says that a block has ${blockBytes} bytes`);
  }
  if (HEADER_BYTES + (blocks + 1) * 8 > store.size) {
    throw corrupt(store, "header", 132, `says that there are ${blocks} blocks, too many for ${store.size} bytes`);
  }
  return { store, blockBytes, blocks };
}

class CloopImage extends LookupImage {
  readonly format = "cloop";
  readonly #layout: Layout;

  constructor(layout: Layout) {
    super(layout.store, layout.blocks * layout.blockBytes);
    this.#layout = layout;
  }

  find(offset: number): Found {
    const { blocks, blockBytes } = this.#layout;
    const block = Math.floor(offset / blockBytes);
    const at = HEADER_BYTES + block * 8;
    const position = this.#offset(at);
    const packed = this.#offset(at + 8) - position;
    const first = HEADER_BYTES + (blocks + 1) * 8;
    // What grows by packing does so by little.
    if (position < first || packed <= 0 || position + packed > this.store.size || packed > blockBytes * 2 + 1024) {
      const message = `put block ${block} into ${packed} bytes at byte ${position}, where it cannot be`;
      throw corrupt(this.store, OFFSETS, at, message);
    }
    const start = block * blockBytes;
    const unit = { start, size: blockBytes, position, packed };
    return { kind: ExtentKind.Packed, length: blockBytes - (offset - start), unit };
  }

  #offset(position: number): number {
    const { view, at } = this.pages.at(position);
    return Number(view.getBigUint64(at));
  }

  protected override unpackBytes(packed: Uint8Array, { size }: Unit): Uint8Array {
    return unzlib(packed, size);
  }

  describe(): Record<string, unknown> {
    const { blockBytes, blocks } = this.#layout;
    return { format: this.format, size: this.size, clusterSize: blockBytes, blocks, version: "2.0" };
  }
}

/** Compressed loop images, as live CDs had them; read only. */
export const cloop: Format = {
  name: "cloop",
  extensions: ["cloop"],
  probe: (head) => (textAt(head, 0, MAGIC.length) === MAGIC ? 100 : 0),

  *open(store) {
    return new CloopImage(yield* readLayout(store));
  },

  *check(store) {
    const layout = yield* readLayout(store);
    return yield* checkUnits(new CloopImage(layout), layout.blockBytes);
  },
};
