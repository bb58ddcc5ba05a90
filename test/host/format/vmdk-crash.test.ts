import { expect, test } from "vitest";
import { writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay, parentNote } from "../../../src/host/block/overlay.ts";
import { vmdk } from "../../../src/host/format/vmdk/index.ts";
import { KeptStore } from "../../support/disks.ts";
import { cutEverywhere, type Life, PARENT, SIZE } from "../../support/life.ts";
import { tier } from "../../support/tier.ts";
import { createTwo, openTwo, twoFiles } from "../../support/two-files.ts";

const PROGRAMS = tier(4, 100);
const TIMEOUT = { timeout: tier(300_000, 7_200_000) };

async function lives(): Promise<Record<string, Life>> {
  const parent = new KeptStore();
  const base = await createDisk(parent, { format: "vmdk", size: SIZE });
  await writeBytes(base, 0, new Uint8Array(SIZE).fill(PARENT));
  await base.close();
  const behind = () => openDisk(parent, { readOnly: true });
  const note = { path: "parent.vmdk" };
  return {
    sparse: {
      format: vmdk,
      hasParent: false,
      create: (store) => createDisk(store, { format: "vmdk", size: SIZE }),
      open: (store) => openDisk(store),
    },
    ...Object.fromEntries(
      ["twoGbMaxExtentSparse", "vmfsSparse", "monolithicFlat"].map((subformat) => [
        subformat,
        {
          format: twoFiles,
          hasParent: false,
          create: (store) => createTwo(store, { subformat, size: SIZE }),
          open: (store) => openTwo(store),
          keeps: subformat === "monolithicFlat",
        } satisfies Life,
      ]),
    ),
    differencing: {
      format: vmdk,
      hasParent: true,
      create: async (store) => createOverlay(await behind(), store, { format: "vmdk", size: SIZE, parent: note }),
      open: async (store) => openDisk(store, { backing: await behind() }),
      renamed: async () => parentNote(await behind(), note),
    },
    "vmfsSparse over a parent": {
      format: twoFiles,
      hasParent: true,
      create: async (store) => {
        const parent = await parentNote(await behind(), note);
        const options = { subformat: "vmfsSparse", size: SIZE, parent };
        return createTwo(store, options, { backing: await behind() });
      },
      open: async (store) => openTwo(store, { backing: await behind() }),
      renamed: async () => parentNote(await behind(), note),
    },
  };
}

test.each([
  "sparse",
  "differencing",
  "twoGbMaxExtentSparse",
  "vmfsSparse",
  "vmfsSparse over a parent",
  "monolithicFlat",
])("power may be lost at any step of a %s VMDK's life", TIMEOUT, async (kind) => {
  const cuts = await cutEverywhere((await lives())[kind], PROGRAMS);
  console.log(`${kind} VMDK: ${cuts} cuts of ${PROGRAMS} programs`);
  expect(cuts).toBeGreaterThan(PROGRAMS * 20);
});
