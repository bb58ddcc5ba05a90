import type { Format } from "../../../core/format.ts";
import { checkVhdx, repairVhdx } from "./check.ts";
import { signed } from "./crc32c.ts";
import { createVhdx, measureVhdx } from "./create.ts";
import { FILE_SIGNATURE } from "./header.ts";
import { openVhdx } from "./open.ts";

/** Virtual Hard Disk v2 (Hyper-V, MS-VHDX): fixed, dynamic and differencing. */
export const vhdx: Format = {
  name: "vhdx",
  extensions: ["vhdx", "avhdx"],
  probe: (head) => (signed(head, FILE_SIGNATURE) ? 100 : 0),
  open: openVhdx,
  create: createVhdx,
  measure: measureVhdx,
  check: checkVhdx,
  repair: repairVhdx,
};
