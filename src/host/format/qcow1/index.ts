import type { Flow } from "../../../core/flow.ts";
import type { Format, ParentReference } from "../../../core/format.ts";
import { inflate } from "../inflate.ts";
import type { Unit } from "../lookup/mapper.ts";
import { TreeImage } from "../lookup/tree.ts";
import { checkTree } from "../lookup/tree-check.ts";
import { type OldAes, openOldAes } from "../qcow2/old-aes.ts";
import { AES, isQcow1, type QcowLayout, readQcow1 } from "./header.ts";

class Qcow1Image extends TreeImage {
  readonly format = "qcow";
  protected override readonly unitName = "compressed cluster";
  declare protected readonly layout: QcowLayout;
  readonly encrypted: boolean;
  readonly #aes: OldAes | undefined;

  constructor(layout: QcowLayout, aes: OldAes | undefined) {
    super(layout);
    this.encrypted = layout.encrypted;
    this.#aes = aes;
  }

  override get parent(): ParentReference | undefined {
    return this.layout.parent;
  }

  /** Compressed clusters are not encrypted; encrypted ones are as long as they are. */
  protected override *open(unit: Unit, from: number, to: number): Flow<Uint8Array> {
    if (unit.method !== AES || !this.#aes) return yield* super.open(unit, from, to);
    return yield* this.#aes.read(unit.position + from, unit.start + from, to - from);
  }

  protected override unpackBytes(packed: Uint8Array, { size }: Unit): Uint8Array {
    return inflate(packed, size);
  }

  describe(): Record<string, unknown> {
    const { clusterBytes, l2Entries, encrypted } = this.layout;
    return {
      format: this.format,
      size: this.size,
      clusterSize: clusterBytes,
      l2Entries,
      ...(encrypted && { encrypted: true, encryption: "aes" }),
    };
  }
}

/** QEMU's copy-on-write format, version 1; read only. */
export const qcow1: Format = {
  name: "qcow",
  extensions: ["qcow"],
  probe: (head) => (isQcow1(head) ? 100 : 0),

  *open(store, options) {
    const layout = yield* readQcow1(store);
    return new Qcow1Image(layout, layout.encrypted ? yield* openOldAes(store, undefined, options) : undefined);
  },

  *check(store) {
    return yield* checkTree(yield* readQcow1(store));
  },
};
