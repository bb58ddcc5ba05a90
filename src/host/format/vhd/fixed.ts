import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type Image } from "../../../core/format.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { makerOf, SECTOR } from "./footer.ts";
import { type Layout, readLayout } from "./layout.ts";
import { resizeFixed } from "./resize.ts";

/** A fixed disk: the raw bytes, then the footer. */
export class FixedVhd implements Image {
  readonly format = "vhd";
  readonly sectorSize = SECTOR;
  readonly mapper: CoreMapper;
  readonly dirty = false;
  #layout: Layout;

  constructor(layout: Layout) {
    this.#layout = layout;
    this.mapper = new CoreMapper({ kind: "flat", hole: ExtentKind.Zero, base: 0, limit: layout.size });
  }

  get size(): number {
    return this.#layout.size;
  }
  get identity(): string {
    return this.#layout.footer.uuid;
  }

  // A flat map asks for none of these.
  *allocate(): Flow {}
  *load(): Flow {}
  *sync(): Flow {}
  fault(): ParavaneError {
    return new ParavaneError("CORRUPT", "a fixed VHD has no block metadata");
  }

  *resize(size: number): Flow {
    yield* resizeFixed(this.#layout, size);
    this.#layout = yield* readLayout(this.#layout.store);
    this.mapper.limit = size;
  }

  describe(): Record<string, unknown> {
    const { footer } = this.#layout;
    const { uuid, geometry } = footer;
    return { format: "vhd", subformat: "fixed", size: this.size, ...makerOf(footer), uuid, geometry };
  }
}
