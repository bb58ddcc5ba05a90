import { asParavaneError, type ParavaneError } from "../../../core/error.ts";
import { ExtentKind, type Mapper, MapStop } from "../../../core/format.ts";
import { Missing, Pages } from "./pages.ts";

/** Bytes of the disk that are stored together, not as the guest sees them. */
export interface Unit {
  /** Guest bytes. */
  start: number;
  size: number;
  /** Bytes in the store; as many as there may be, until it was read, where the format says it only there. */
  position: number;
  packed: number;
  /** The format's own word for how. */
  method?: number;
}

/** What a format's tables say of the bytes from an offset on. */
export interface Found {
  kind: ExtentKind;
  /** Bytes that are kept in this way, at least one. */
  length: number;
  /** `Data`: where in the store. */
  position?: number;
  /** `Packed`. */
  unit?: Unit;
  /** `Data` that is not to be written in place: a write needs a place of its own. */
  kept?: boolean;
}

interface Range {
  offset: number;
  left: number;
  write: boolean;
}
interface Extent {
  range: number;
  kind: ExtentKind;
  length: number;
  position: number;
}

const RANGES = 256;
const EXTENTS = 1024;

/** A map that asks the format place by place, for formats that are only read. */
export class LookupMapper implements Mapper {
  readonly maxRanges = RANGES;
  readonly #find: (offset: number, wanted: number) => Found;
  readonly #ranges: Range[] = Array.from({ length: RANGES }, () => ({ offset: 0, left: 0, write: false }));
  #extents: Extent[] = [];
  stopRange = 0;
  stopOffset = 0;
  stopLength = 0;
  stopKey = 0;
  stopPosition = 0;
  /** For `Corrupt`. */
  damage: ParavaneError | undefined;

  /** @param find what is at an offset; throws Missing, and a ParavaneError where the tables are wrong */
  constructor(find: (offset: number, wanted: number) => Found) {
    this.#find = find;
  }

  setRange(index: number, offset: number, length: number, write: boolean): void {
    Object.assign(this.#ranges[index], { offset, left: length, write });
  }

  resolve(count: number): MapStop {
    this.#extents = [];
    for (let index = 0; index < count; index++) {
      const range = this.#ranges[index];
      while (range.left > 0) {
        const stop = this.#step(index, range);
        if (stop === MapStop.Done) continue;
        this.stopRange = index;
        this.stopOffset = range.offset;
        return stop;
      }
    }
    return MapStop.Done;
  }

  #step(index: number, range: Range): MapStop {
    let found: Found;
    try {
      found = this.#find(range.offset, range.left);
    } catch (thrown) {
      if (thrown instanceof Missing) {
        this.stopKey = thrown.page;
        this.stopPosition = Pages.position(thrown.page);
        return MapStop.Miss;
      }
      this.damage = asParavaneError(thrown);
      return MapStop.Corrupt;
    }
    const length = Math.min(found.length, range.left);
    if (range.write && (found.kind !== ExtentKind.Data || found.kept)) {
      this.stopLength = length;
      return MapStop.Allocate;
    }
    if (!this.#emit(index, found, length)) return MapStop.Full;
    range.offset += length;
    range.left -= length;
    return MapStop.Done;
  }

  #emit(range: number, { kind, position = 0 }: Found, length: number): boolean {
    const last = this.#extents.at(-1);
    const follows =
      last?.range === range &&
      last.kind === kind &&
      (kind !== ExtentKind.Data || last.position + last.length === position);
    if (follows) last.length += length;
    else if (this.#extents.length >= EXTENTS) return false;
    else this.#extents.push({ range, kind, length, position });
    return true;
  }

  get extentCount(): number {
    return this.#extents.length;
  }
  extentRange(index: number): number {
    return this.#extents[index].range;
  }
  extentKind(index: number): ExtentKind {
    return this.#extents[index].kind;
  }
  extentLength(index: number): number {
    return this.#extents[index].length;
  }
  extentPosition(index: number): number {
    return this.#extents[index].position;
  }
}
