import type { Format } from "../../../core/format.ts";
import { checkVhd, repairVhd } from "./check.ts";
import { createVhd, measureVhd } from "./create.ts";
import { parseFooter } from "./footer.ts";
import { openVhd } from "./open.ts";

/** Virtual Hard Disk (Virtual PC, Hyper-V, Azure; "vpc" to QEMU), fixed, dynamic and differencing. */
export const vhd: Format = {
  name: "vhd",
  extensions: ["vhd", "vpc"],

  probe(head, tail) {
    const sector = new Uint8Array(512);
    for (const bytes of [tail, tail.subarray(1), head]) {
      sector.fill(0);
      sector.set(bytes);
      // The footer at the end is certain; a copy at 0 without it is a damaged or truncated VHD.
      const footer = parseFooter(sector);
      if (footer) return footer.intact ? 100 : 90;
    }
    return 0;
  },

  open: openVhd,
  create: createVhd,
  measure: measureVhd,
  check: checkVhd,
  repair: repairVhd,
};
