import { asParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import { type CheckReport, ExtentKind } from "../../../core/format.ts";
import type { LookupImage } from "./image.ts";
import type { Found } from "./mapper.ts";
import { Missing } from "./pages.ts";
import { emptyReport, noteProblem } from "./tree-check.ts";

/**
 * Goes through the disk from its start to its end, and unpacks all that is packed.
 * @param step bytes to go on by after damage, and what counts as a cluster
 * @param range the part of the disk to look at
 */
export function* checkUnits(
  image: LookupImage,
  step: number,
  { from, to } = { from: 0, to: image.size },
): Flow<CheckReport> {
  const report = emptyReport(Math.ceil((to - from) / step));
  for (let at = from; at < to; ) {
    let length = step - ((at - from) % step);
    try {
      const found = yield* lookUp(image, at);
      length = Math.min(found.length, to - at);
      const { unit } = found;
      if (found.kind === ExtentKind.Data) {
        report.allocatedClusters += Math.ceil(length / step);
        report.imageEndOffset = Math.max(report.imageEndOffset, found.position! + length);
      } else if (unit) {
        report.allocatedClusters += Math.ceil(unit.size / step);
        report.compressedClusters += Math.ceil(unit.size / step);
        yield* image.unpackUnit(unit);
        // How long it is may be known only now.
        report.imageEndOffset = Math.max(report.imageEndOffset, unit.position + unit.packed);
      }
    } catch (thrown) {
      const error = asParavaneError(thrown);
      if (error.code !== "CORRUPT") throw thrown;
      const { structure = "image", offset = 0 } = error.context;
      noteProblem(report, { kind: "structure", structure, offset, message: error.message });
    }
    at += length;
  }
  return report;
}

function* lookUp(image: LookupImage, offset: number): Flow<Found> {
  for (;;) {
    try {
      return image.find(offset);
    } catch (thrown) {
      if (!(thrown instanceof Missing)) throw thrown;
      yield* image.loadPage(thrown.page);
    }
  }
}
