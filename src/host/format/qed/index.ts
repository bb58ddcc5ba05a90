import type { Format, ParentReference } from "../../../core/format.ts";
import { TreeImage } from "../lookup/tree.ts";
import { checkTree, noteProblem } from "../lookup/tree-check.ts";
import { isQed, type QedLayout, readQed } from "./header.ts";

class QedImage extends TreeImage {
  readonly format = "qed";
  declare protected readonly layout: QedLayout;

  override get parent(): ParentReference | undefined {
    return this.layout.parent;
  }

  describe(): Record<string, unknown> {
    const { clusterBytes, tableSize, needsCheck, features } = this.layout;
    return {
      format: this.format,
      size: this.size,
      clusterSize: clusterBytes,
      dirty: needsCheck,
      tableClusters: tableSize,
      features: Number(features),
    };
  }
}

/** QEMU Enhanced Disk, of before qcow2 version 3; read only. */
export const qed: Format = {
  name: "qed",
  extensions: ["qed"],
  probe: (head) => (isQed(head) ? 100 : 0),

  *open(store, { onWarning }) {
    const layout = yield* readQed(store);
    if (layout.needsCheck) onWarning?.(`${store.name}: was not closed properly; what was written last may be missing`);
    return new QedImage(layout);
  },

  *check(store) {
    const layout = yield* readQed(store);
    const report = yield* checkTree(layout);
    if (layout.needsCheck) {
      const message = "the header says that the image needs a check";
      noteProblem(report, { kind: "count", structure: "header", offset: 16, message });
    }
    return report;
  },
};
