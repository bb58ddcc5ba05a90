import { Prd } from "../../../assembly/spec/ata.ts";
import type { SegmentList } from "../../core/segments.ts";
import type { GuestRam } from "../../hypervisor/memory.ts";

/** No descriptor may cross this boundary (BMIDE §1.2). */
const BOUNDARY = 65536;

/** One page of physical region descriptors. */
export class PrdTable {
  /** Guest-physical; aligned to its own size, so that it never crosses a 64 KiB boundary. */
  readonly address: number;
  readonly #ram: GuestRam;

  constructor(ram: GuestRam) {
    this.#ram = ram;
    this.address = ram.allocate(1);
  }

  free(): void {
    this.#ram.free(this.address, 1);
  }

  /** Describes `segments` (guest-physical); false when the bus master cannot reach them: odd, or too many. */
  fill(segments: SegmentList): boolean {
    let entry = 0;
    for (let i = 0; i < segments.count; i++) {
      let address = segments.start(i);
      let left = segments.length(i);
      if (((address | left) & 1) !== 0) return false;
      while (left > 0) {
        if (entry === Prd.Entries) return false;
        const length = Math.min(left, BOUNDARY - (address % BOUNDARY));
        this.#ram.write32(this.address + entry * Prd.Size, address);
        // 64 KiB is written as 0.
        this.#ram.write32(this.address + entry * Prd.Size + 4, length & Prd.Count);
        entry++;
        address += length;
        left -= length;
      }
    }
    if (entry === 0) return false;
    const last = this.address + entry * Prd.Size - 4;
    this.#ram.write32(last, (this.#ram.read32(last) | Prd.EndOfTable) >>> 0);
    return true;
  }
}
