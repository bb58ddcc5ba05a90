import { ExtentKind, type Mapper } from "../../core/format.ts";

/** A run of a disk's bytes that are kept in the same way. */
export interface Place {
  /** Bytes. */
  length: number;
  /**
   * `zero` reads as zeros because the image says so; `hole` because neither the image nor anything behind it has it;
   * `packed` is stored compressed. `backing` is only seen where the parent has not been asked.
   */
  kind: "data" | "zero" | "hole" | "packed" | "backing";
  /** 0: in the image itself; 1: in its parent; and so on. */
  depth: number;
  /** For `data`: the byte in the store of that name. */
  position?: number;
  store?: string;
}

/** The mapper's answer for one range, as places; those that continue each other are one. */
export function placesFrom(mapper: Mapper, store: string, hasBacking: boolean): Place[] {
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
