import { vdi } from "../../src/host/format/vdi/index.ts";
import { dataFile } from "../support/data.ts";
import type { Pick } from "../support/fuzz-disk.ts";
import { familyOf, fuzzImages, membersOf, oddNumber, WHOLE, WHOLE_WORKS } from "../support/fuzz-images.ts";
import { fuzzRepair } from "../support/fuzz-repair.ts";

/** 32-bit fields that are interpreted. */
const FIELDS = [64, 68, 72, 76, 80, 340, 344, 348, 360, 368, 372, 376, 380, 384, 388, 424, 440];

function change(bytes: Uint8Array, view: DataView, pick: Pick): void {
  const what = pick(10);
  if (what < 4) view.setUint32(FIELDS[pick(FIELDS.length)], oddNumber(pick), true);
  else if (what < 8) view.setUint32(512 + pick(64) * 4, pick(4) === 0 ? oddNumber(pick) : pick(20), true);
  else bytes[pick(bytes.length)] ^= 1 << pick(8);
}

const kinds = [{ blockSize: 65536 }, { blockSize: 4096 }, { subformat: "fixed", blockSize: 65536 }];
const family = await familyOf("vdi", kinds, [dataFile("dissect-vdi_basic.vdi")], kinds[0]);

fuzzImages({
  title: "VDIs",
  format: vdi,
  runs: 1000,
  make: membersOf(family, change),
  works: WHOLE_WORKS,
  reached: [
    ...WHOLE,
    ...["refused: CORRUPT header", "refused: CORRUPT block map", "refused: UNSUPPORTED header"],
    "refused: NOT_FOUND parent locator",
  ],
});

fuzzRepair({ title: "VDIs", format: vdi, runs: 400, make: membersOf(family, change) });
