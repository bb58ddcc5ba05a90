import { describe, expect, test } from "vitest";
import { writeBytes } from "../../../src/host/block/bytes.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { createOverlay } from "../../../src/host/block/overlay.ts";
import { rebaseDisk } from "../../../src/host/image/rebase.ts";
import { KeptStore } from "../../support/disks.ts";
import { Content, family, PAIRS } from "../../support/family.ts";

/** How images note a name; VDIs note the parent's UUID instead. */
const noted = (name: string) => new RegExp(`^((\\.\\\\)?${name}|\\{[0-9a-f-]{36}\\}\\.vdi)$`);

const MiB = 2 ** 20;

/** Another base of the same kind, of some other content. */
async function another({ base }: (typeof PAIRS)[number], size: number, like?: Uint8Array) {
  const store = new KeptStore(0, { name: "other" });
  const disk = await createDisk(store, { size, ...base });
  const content = new Content(size, 77);
  if (like) {
    const same = like.subarray(0, size);
    await writeBytes(disk, 0, same);
    content.bytes.set(same);
  }
  await content.scribble(disk, 12, disk.sectorSize);
  await disk.close();
  return { store, content };
}

describe.each(PAIRS)("$name", (pair) => {
  test.each([
    ["another one", 5 * MiB, false],
    ["a longer one", 7 * MiB, true],
    ["a shorter one", 3 * MiB, true],
  ])("to %s: the image reads the same", async (_, size, alike) => {
    const { open, content, below, stores } = await family(pair, 5 * MiB, 5 * MiB + 4096, size);
    const other = await another(pair, size, alike ? below.bytes.slice(0, Math.min(size, 5 * MiB)) : undefined);
    const { disk } = await open();
    const backing = await openDisk(other.store, { format: pair.base.format, readOnly: true });
    const { copied } = await rebaseDisk(disk, { backing, parent: { path: "other" } });
    expect(copied).toBeGreaterThan(0);
    if (alike) expect(copied).toBeLessThan(5 * MiB);
    await content.check(disk);
    await content.scribble(disk, 5);
    await content.check(disk);
    expect(disk.parent?.paths[0]).toMatch(noted("other"));
    await disk.close();
    const again = await openDisk(stores.top, {
      format: pair.top.format,
      backing: await openDisk(other.store, { format: pair.base.format, readOnly: true }),
    });
    await content.check(again);
    await again.close();
  });

  test("unsafe: only the name changes, and the new parent shows", async () => {
    const { open, content, below, stores } = await family(pair, 4 * MiB, 4 * MiB, 31);
    const copy = await another(pair, 4 * MiB, below.bytes);
    // Alike again, so that it is the right one.
    const fixed = await openDisk(copy.store, { format: pair.base.format });
    await writeBytes(fixed, 0, below.bytes.subarray(0, 4 * MiB));
    await fixed.close();
    const { disk } = await open();
    const backing = await openDisk(copy.store, { format: pair.base.format, readOnly: true });
    expect(await rebaseDisk(disk, { backing, parent: { path: "other" }, unsafe: true })).toEqual({ copied: 0 });
    await content.check(disk);
    await disk.close();
    const again = await openDisk(stores.top, {
      format: pair.top.format,
      backing: await openDisk(copy.store, { format: pair.base.format, readOnly: true }),
    });
    await content.check(again);
    await again.close();
  });

  test("stopped on the way, it is the same image over the old parent", async () => {
    const { open, content, stores } = await family(pair, 4 * MiB, 4 * MiB, 41);
    const other = await another(pair, 4 * MiB);
    const { disk } = await open();
    const stop = new AbortController();
    let writes = 0;
    stores.top.onWrite = () => {
      if (++writes === 2) stop.abort();
    };
    const backing = await openDisk(other.store, { format: pair.base.format, readOnly: true });
    const options = { backing, parent: { path: "other" }, signal: stop.signal };
    await expect(rebaseDisk(disk, options)).rejects.toMatchObject({ code: "ABORTED" });
    await content.check(disk);
    expect(disk.parent?.paths[0]).toMatch(noted("base"));
    await disk.close();
    await backing.close();
    stores.top.onWrite = () => {};
    const again = await open();
    await content.check(again.disk);
    await again.disk.close();
  });
});

test("to none: the image stands alone", async () => {
  const { open, content, stores } = await family(PAIRS[0], 4 * MiB, 4 * MiB + 512, 51);
  const { disk } = await open();
  await rebaseDisk(disk);
  await content.check(disk);
  expect(disk.parent).toBeUndefined();
  await disk.close();
  const alone = await openDisk(stores.top);
  await content.check(alone);
  await alone.close();
});

test("from none to one: what reads as zeros stays zeros", async () => {
  for (const compat of ["1.1", "0.10"]) {
    const other = await another(PAIRS[0], 2 * MiB);
    const store = new KeptStore(0, { name: "top" });
    const disk = await createDisk(store, { format: "qcow2", size: 2 * MiB, compat });
    const content = new Content(2 * MiB, 3);
    await content.scribble(disk, 4);
    await rebaseDisk(disk, { backing: await openDisk(other.store, { readOnly: true }), parent: { path: "other" } });
    await content.check(disk);
    await disk.close();
    const again = await openDisk(store, { backing: await openDisk(other.store, { readOnly: true }) });
    await content.check(again);
    await again.close();
  }
});

test("an image is not based on itself, nor on what is based on it; a name and a parent go together", async () => {
  class Same extends KeptStore {
    readonly identity = "one";
  }
  const store = new Same();
  await (await createDisk(store, { format: "qcow2", size: MiB })).close();
  const disk = await openDisk(store);
  const itself = await openDisk(store, { readOnly: true });
  const parent = { path: "x" };
  await expect(rebaseDisk(disk, { backing: itself, parent })).rejects.toMatchObject({ code: "INVALID" });
  const child = await createOverlay(itself, new KeptStore(), { format: "qcow2", parent });
  await expect(rebaseDisk(disk, { backing: child, parent })).rejects.toMatchObject({ code: "INVALID" });
  await expect(rebaseDisk(disk, { parent })).rejects.toMatchObject({ code: "INVALID" });
  await expect(rebaseDisk(disk, { backing: child })).rejects.toMatchObject({ code: "INVALID" });
  await disk.close();
});
