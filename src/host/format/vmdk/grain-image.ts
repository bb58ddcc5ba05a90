import type { Flow } from "../../../core/flow.ts";
import type { SegmentList } from "../../../core/segments.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Unit } from "../lookup/mapper.ts";
import { Scatter } from "../scatter.ts";
import type { Unpacker } from "../unpacker.ts";

/** A disk that may have compressed grains. */
export abstract class GrainImage extends LookupImage {
  protected abstract readonly unpacker: Unpacker<Unit>;

  override *unpack(offset: number, memory: Uint8Array, segments: SegmentList): Flow {
    const units = this.packedUnits(offset, offset + segments.total);
    const scatter = new Scatter(memory, segments);
    yield* this.unpacker.each(units, (bytes, i) => scatter.put(units[i].start - offset, bytes));
  }

  override *unpackUnit(unit: Unit): Flow<Uint8Array> {
    let copy!: Uint8Array;
    yield* this.unpacker.each([unit], (bytes) => {
      copy = bytes.slice();
    });
    return copy;
  }
}
