import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import { ExtentKind, type Image } from "../../../core/format.ts";
import { CoreMapper } from "../../../wasm/map.ts";
import { type Footer, SECTOR } from "./footer.ts";

/** A fixed disk: the raw bytes, then the footer. */
export class FixedVhd implements Image {
  readonly format = "vhd";
  readonly sectorSize = SECTOR;
  readonly size: number;
  readonly mapper: CoreMapper;
  readonly dirty = false;
  readonly #footer: Footer;

  constructor(size: number, footer: Footer) {
    this.size = size;
    this.#footer = footer;
    this.mapper = new CoreMapper({ kind: "flat", hole: ExtentKind.Zero, base: 0, limit: size });
  }

  // A flat map asks for none of these.
  *allocate(): Flow {}
  *load(): Flow {}
  *sync(): Flow {}
  fault(): ParavaneError {
    return new ParavaneError("CORRUPT", "a fixed VHD has no block metadata");
  }

  describe(): Record<string, unknown> {
    const { creator, uuid, geometry } = this.#footer;
    return { format: "vhd", subformat: "fixed", size: this.size, creator, uuid, geometry };
  }
}
