import type { Block } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { type Flow, type Later, wait } from "../../core/flow.ts";
import { ExtentKind, type Image, type Mapper, MapStop } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import type { Lock } from "./lock.ts";

/** A run of a disk's bytes that are kept in the same way. */
export interface Place {
  /** Bytes. */
  length: number;
  /**
   * `zero` reads as zeros because the image, or a hole of its file, says so; `hole` because neither the image nor anything
   * behind it has it; `packed` is stored compressed, or encrypted in qcow2's old way. `backing` is only seen where the
   * parent has not been asked.
   */
  kind: "data" | "zero" | "hole" | "packed" | "backing";
  /** 0: in the image itself; 1: in its parent; and so on. */
  depth: number;
  /** For `data` that is stored as it is, and holes of the file: the byte in the store of that name. */
  position?: number;
  store?: string;
}

/** The mapper's answer for one range, as places; those that continue each other are one. */
function placesFrom(mapper: Mapper, store: string, hasBacking: boolean): Place[] {
  const list: Place[] = [];
  for (let i = 0; i < mapper.extentCount; i++) {
    const kind = mapper.extentKind(i);
    const length = mapper.extentLength(i);
    const last = list[list.length - 1];
    if (kind === ExtentKind.Data) {
      const position = mapper.extentPosition(i);
      if (last?.position !== undefined && last.position + last.length === position) last.length += length;
      else list.push({ length, kind: "data", depth: 0, position, store });
      continue;
    }
    const named =
      kind === ExtentKind.Packed
        ? "packed"
        : kind === ExtentKind.Zero
          ? "zero"
          : hasBacking
            ? ("backing" as const)
            : "hole";
    if (last?.kind === named) last.length += length;
    else list.push({ length, kind: named, depth: 0 });
  }
  return list;
}

/** So many metadata pages for one answer mean a defect. */
const MAX_LOADS = 1000;
/** Extents of the store in one answer. */
const MAX_EXTENTS = 1024;

/**
 * Where the bytes from `offset` on are, without reading them: a list that covers a first part of the range.
 * @param store what holds the data
 */
export function* placesOf(
  image: Image,
  lock: Lock,
  store: Store,
  backing: Block | undefined,
  offset: number,
  length: number,
): Flow<Place[]> {
  for (let loads = 0; loads < MAX_LOADS; ) {
    if (lock.held) {
      yield lock.released();
      continue;
    }
    const { mapper } = image;
    mapper.setRange(0, offset, length, false);
    const stop = mapper.resolve(1);
    if (mapper.extentCount > 0) {
      const found = placesFrom(mapper, store.name, backing !== undefined);
      const stored = image.encrypted ? found.map(veiled) : found;
      const whole = image.sparse && store.extent ? withHoles(stored, store) : stored;
      const list = store.locate ? whole.map((place) => located(place, store)) : whole;
      return backing ? yield* behind(list, offset, backing) : list;
    }
    if (stop === MapStop.Corrupt) throw image.fault();
    yield* lock.during(image.load());
    loads++;
  }
  throw new ParavaneError("IO", "the disk's map makes no progress", { offset });
}

/** Where encrypted data is says nothing to whoever has no key. */
function veiled({ length, kind, depth }: Place): Place {
  return { length, kind, depth };
}

/** In its own file, of those that the store is made of. */
function located(place: Place, store: Store): Place {
  if (place.position === undefined) return place;
  const { name, position } = store.locate!(place.position);
  return { ...place, position, store: name };
}

/** Takes holes of the store out of what is stored there. The list may end early. */
function withHoles(list: readonly Place[], store: Store): Place[] {
  const whole: Place[] = [];
  for (const place of list) {
    for (let done = 0; done < place.length; ) {
      if (whole.length >= MAX_EXTENTS) return whole;
      if (place.position === undefined) {
        whole.push(place);
        break;
      }
      const position = place.position + done;
      const { hole, length } = store.extent!(position, place.length - done);
      whole.push({ ...place, length, kind: hole ? "zero" : "data", position });
      done += length;
    }
  }
  return whole;
}

/** A block that can say where its bytes are. */
interface Located extends Block {
  places(offset: number, length: number): Later<Place[]>;
}

/** Asks the parent where its part is; the list ends early where the parent's answer does. */
function* behind(list: Place[], offset: number, parent: Block): Flow<Place[]> {
  const whole: Place[] = [];
  let at = offset;
  for (const place of list) {
    if (place.kind !== "backing") whole.push(place);
    else {
      const inside = Math.min(place.length, parent.size - at);
      if (inside <= 0) whole.push({ ...place, kind: "hole" });
      else if ("places" in parent) {
        const below = yield* wait((parent as Located).places(at, inside));
        let covered = 0;
        for (const part of below) {
          whole.push({ ...part, depth: part.depth + 1 });
          covered += part.length;
        }
        if (covered < place.length) return whole;
      } else {
        whole.push({ length: inside, kind: "data", depth: place.depth + 1 });
        if (inside < place.length) return whole;
      }
    }
    at += place.length;
  }
  return whole;
}
