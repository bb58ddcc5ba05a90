import fc from "fast-check";
import { expect } from "vitest";
import type { Block } from "../../src/core/block.ts";
import type { Flow } from "../../src/core/flow.ts";
import type { Image } from "../../src/core/format.ts";
import { discard, flush, readBytes, writeBytes, writeZeroes } from "../../src/host/block/bytes.ts";
import type { Engine } from "../../src/host/block/engine.ts";
import { createDisk, openDisk } from "../../src/host/block/open.ts";
import { KeptStore } from "./disks.ts";
import { packFills } from "./pack.ts";
import { check } from "./qcow2.ts";

export const SECTOR = 512;

// biome-ignore format: how often each comes is seen at a glance
const KINDS = [
  "write", "write", "write", "write", "read", "zero", "discard", "flush", "reopen", "pack", "pack",
  "keep", "back", "drop", "resize", "empty", "rename",
] as const;
export interface Step {
  kind: (typeof KINDS)[number];
  at: number;
  offset: number;
  count: number;
}

/** Random programs for a disk of so many sectors: they meet each other, both ends, and 4 GiB and 2 TiB. */
export const programs = (sectors: number): fc.Arbitrary<Step[]> =>
  fc.array(
    fc.record<Step>({
      kind: fc.constantFrom(...KINDS),
      at: fc.constantFrom(0, 120, 1020, Math.floor(sectors / 2), sectors - 60, 2 ** 23 - 20, 2 ** 32 - 20),
      offset: fc.nat(50),
      count: fc.oneof(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 600 })),
    }),
    { maxLength: 16 },
  );

/** The byte that fills each sector; zeros are left out, but for sectors where something else was before. */
type Tags = Map<number, number>;
export interface State {
  sectors: number;
  tags: Tags;
}
export interface Played {
  store: KeptStore;
  last: State;
  kept: (State & { id: string })[];
}

const engineOf = (disk: Block) => disk as unknown as Engine;
export const whole = <T>(disk: Block, work: (image: Image) => Flow<T>): Promise<T> => (disk as Engine).exclusive(work);

/** Runs a program; what the disk holds is compared with a model after it, and what `check` finds with nothing. */
export async function play(
  steps: readonly Step[],
  options: Record<string, unknown>,
  sectors: number,
  backing?: () => Promise<Block>,
): Promise<Played> {
  const store = new KeptStore();
  const over = async () => (backing ? { backing: await backing() } : {});
  const named = backing ? { parent: { path: "parent", format: "raw" }, ...(await over()) } : {};
  await (await createDisk(store, { format: "qcow2", size: sectors * SECTOR, ...options, ...named })).close();
  const parent = backing ? await readBytes(await backing(), 0, (await backing()).size) : new Uint8Array(0);
  const below = (from: number, to: number): Tags => {
    const tags: Tags = new Map();
    for (let i = from; i < Math.min(to, parent.length / SECTOR); i++) tags.set(i, parent[i * SECTOR]);
    return tags;
  };
  let state: State = { sectors, tags: below(0, sectors) };
  const kept: (State & { id: string })[] = [];
  let disk = await openDisk(store, await over());
  let next = 1;
  const fill = (sector: number, count: number): Uint8Array => {
    const bytes = new Uint8Array(count * SECTOR);
    for (let i = 0; i < count; i++) {
      next = (next % 250) + 1;
      bytes.fill(next, i * SECTOR, i * SECTOR + SECTOR);
      if (sector + i < state.sectors) state.tags.set(sector + i, next);
    }
    return bytes;
  };
  const clear = (sector: number, count: number) => {
    for (let i = 0; i < count; i++) state.tags.set(sector + i, 0);
  };
  const resize = async (to: number) => {
    const outcome = await disk.resize(to * SECTOR).catch((error) => error);
    if (options.compat === "0.10" && outcome?.code === "UNSUPPORTED") return;
    expect(outcome).toBe(undefined);
    const old = state.sectors;
    state.sectors = to;
    for (const sector of [...state.tags.keys()]) if (sector >= to) state.tags.delete(sector);
    for (const sector of below(old, to).keys()) state.tags.set(sector, 0);
    for (let i = old; i < Math.min(to, old + 120); i++) state.tags.set(i, 0);
  };

  for (const { kind, at, offset, count: wanted } of steps) {
    const sector = Math.min(Math.max(0, at + offset), state.sectors - 1);
    const count = Math.min(wanted, state.sectors - sector);
    const chosen = kept[offset % Math.max(1, kept.length)];
    if (kind === "write") await writeBytes(disk, sector * SECTOR, fill(sector, count));
    else if (kind === "read") await verify(disk, state, sector, count);
    else if (kind === "flush") await flush(disk);
    else if (kind === "zero") {
      clear(sector, count);
      await writeZeroes(disk, sector * SECTOR, count * SECTOR);
    } else if (kind === "discard") {
      await discard(disk, sector * SECTOR, count * SECTOR);
      const bytes = await readBytes(disk, sector * SECTOR, count * SECTOR);
      for (let i = 0; i < count; i++) if (bytes[i * SECTOR] === 0) state.tags.set(sector + i, 0);
      await verify(disk, state, sector, count);
    } else if (kind === "pack") {
      await whole(disk, function* (image) {
        const unit = image.packing!.unit / SECTOR;
        for (let cluster = Math.floor(sector / unit), i = 0; i < 1 + (wanted % 5); i++, cluster++) {
          if (cluster * unit >= state.sectors) break;
          const bytes = fill(cluster * unit, unit);
          const left = state.sectors - cluster * unit;
          if (left < unit) bytes.fill(0, left * SECTOR);
          const packed = packFills(bytes, image.packing!);
          if (packed.length < bytes.length) yield* image.writePacked!(cluster * unit * SECTOR, packed);
          else for (let s = 0; s < unit; s++) state.tags.delete(cluster * unit + s);
        }
      });
      // What did not get smaller was not written: it is as it was, which is easiest to find out by writing it.
      const unit = engineOf(disk).image.packing!.unit / SECTOR;
      for (let cluster = Math.floor(sector / unit), i = 0; i < 1 + (wanted % 5); i++, cluster++) {
        const from = cluster * unit;
        if (from >= state.sectors || state.tags.has(from)) continue;
        const length = Math.min(unit, state.sectors - from);
        await writeBytes(disk, from * SECTOR, fill(from, length));
      }
    } else if (kind === "keep") {
      const { id } = await whole(disk, (image) => image.snapshots!.create({ name: `s${kept.length}` }));
      kept.push({ id, sectors: state.sectors, tags: new Map(state.tags) });
    } else if (kind === "back" && chosen) {
      await whole(disk, (image) => image.snapshots!.apply(chosen.id));
      state = { sectors: chosen.sectors, tags: new Map(chosen.tags) };
    } else if (kind === "drop" && chosen) {
      await whole(disk, (image) => image.snapshots!.delete(chosen.id));
      kept.splice(kept.indexOf(chosen), 1);
    } else if (kind === "resize") {
      // Often smaller and larger again, within what was written: nothing old may come back.
      if (offset % 2 === 0) await resize(Math.max(1, state.sectors - (wanted % 100)));
      await resize(Math.max(1, Math.min(sectors * 2, at + offset + (wanted % 7))));
    } else if (kind === "empty" && (backing || offset % 4 === 0)) {
      await whole(disk, (image) => image.empty!());
      state.tags = below(0, state.sectors);
    } else if (kind === "rename" && backing) {
      await whole(disk, (image) => image.setParent!({ path: `${"p".repeat(offset + 1)}`, format: "raw" }));
    } else if (kind === "reopen") {
      await disk.close();
      disk = await openDisk(store, await over());
      expect(disk.size).toBe(state.sectors * SECTOR);
    }
  }
  await verifyAll(disk, state);
  await disk.close();
  const { corruptions, leaks, problems } = check(store);
  expect({ corruptions, leaks, problems }).toEqual({ corruptions: 0, leaks: 0, problems: [] });
  for (const snapshot of kept) {
    const options = { readOnly: true, ...(await over()), snapshot: snapshot.id };
    const old = await openDisk(store, options as object);
    expect(old.size).toBe(snapshot.sectors * SECTOR);
    await verifyAll(old, snapshot);
    await old.close();
  }
  return { store, last: state, kept };
}

const FILLS = Array.from({ length: 256 }, (_, byte) => Buffer.alloc(SECTOR, byte));

async function verify(disk: Block, { tags }: State, sector: number, count: number): Promise<void> {
  const bytes = await readBytes(disk, sector * SECTOR, count * SECTOR);
  for (let i = 0; i < count; i++) {
    const tag = tags.get(sector + i) ?? 0;
    const part = bytes.subarray(i * SECTOR, i * SECTOR + SECTOR);
    if (Buffer.compare(part, FILLS[tag]) !== 0) throw new Error(`sector ${sector + i} holds ${part[0]}, not ${tag}`);
  }
}

async function verifyAll(disk: Block, state: State): Promise<void> {
  for (const { sector, count } of runsOf(state)) {
    const from = Math.max(0, sector - 1);
    await verify(disk, state, from, Math.min(sector + count + 1, state.sectors) - from);
  }
}

/** What a disk holds as runs of sectors with the same byte, as far as the model says anything. */
export function runsOf({ tags, sectors }: State): { sector: number; count: number; tag: number }[] {
  const runs: { sector: number; count: number; tag: number }[] = [];
  for (const [sector, tag] of [...tags].sort(([a], [b]) => a - b)) {
    if (sector >= sectors) continue;
    const last = runs[runs.length - 1];
    if (last && last.tag === tag && last.sector + last.count === sector) last.count++;
    else runs.push({ sector, count: 1, tag });
  }
  return runs;
}
