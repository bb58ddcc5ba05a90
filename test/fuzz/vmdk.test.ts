import { vmdk } from "../../src/host/format/vmdk/index.ts";
import { dataFile } from "../support/data.ts";
import type { Pick } from "../support/fuzz-disk.ts";
import {
  damaged,
  familyOf,
  fuzzImages,
  imagesOf,
  membersOf,
  oddNumber,
  READ,
  WHOLE,
  WHOLE_WORKS,
} from "../support/fuzz-images.ts";
import { mixed } from "../support/read-only.ts";
import { createTwo, openTwo, twoFiles, twoImage } from "../support/two-files.ts";
import { cowdExtent, descriptorText, seSparseExtent, streamExtent, streamImage } from "../support/vmdk.ts";

/** 32-bit fields that are interpreted. */
const FIELDS = [4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 68, 72, 76];
/** Where 1 MiB has its directories and tables: the copies, then the first. */
const TABLES = [21, 22, 26, 27].map((sector) => sector * 512);

/** @param at where the file of the tables begins, behind its descriptor */
const change = (at: number) => (bytes: Uint8Array, view: DataView, pick: Pick) => {
  const what = pick(10);
  const place = (position: number) => Math.min(at + position, bytes.length - 4);
  if (what < 4) view.setUint32(place(FIELDS[pick(FIELDS.length)]), oddNumber(pick), true);
  else if (what < 8) {
    view.setUint32(place(TABLES[pick(4)] + pick(18) * 4), pick(3) === 0 ? oddNumber(pick) : pick(12) * 128, true);
  } else if (what === 8) bytes[(at > 0 ? 0 : 512) + pick(400)] = pick(256);
  else bytes[pick(bytes.length)] ^= 1 << pick(8);
};

const kinds = [{}, { zeroedGrain: true }, { adapterType: "lsilogic" }];
const samples = [dataFile("dfvfs-ext2.vmdk"), dataFile("plaso-image.vmdk")];
const HEADER = ["refused: CORRUPT header", "refused: UNSUPPORTED header"];

fuzzImages({
  title: "VMDKs",
  format: vmdk,
  runs: 1000,
  make: membersOf(await familyOf("vmdk", kinds, samples), change(0)),
  works: WHOLE_WORKS,
  reached: [
    ...[...WHOLE, ...HEADER, "opened with a warning"],
    ...["refused: CORRUPT grain directory", "refused: CORRUPT descriptor"],
  ],
});

const SPLIT = ["twoGbMaxExtentSparse", "monolithicFlat", "vmfs", "vmfsSparse"];
const splits = await imagesOf(
  "vmdk",
  SPLIT.map((subformat) => ({ subformat })),
  createTwo,
);

fuzzImages({
  title: "VMDKs in several files",
  format: twoFiles,
  runs: 400,
  open: openTwo,
  make: (pick) => ({ bytes: damaged(pick, splits[pick(3) === 0 ? 1 + pick(3) : 0], change(4096)) }),
  works: WHOLE_WORKS,
  reached: [
    ...[...WHOLE, ...HEADER, "empty: UNSUPPORTED", "opened with a warning"],
    ...["refused: CORRUPT extent", "refused: CORRUPT descriptor"],
  ],
});

const CONTENT = mixed(1 << 20);

/** Mostly words of headers and tables, up to `end`. */
const words = (from: number, end: number) => (bytes: Uint8Array, view: DataView, pick: Pick) => {
  const what = pick(10);
  if (what < 8) {
    const word = pick(4) === 0 ? pick(26) * 8 : Math.floor((pick(1000) / 1000) ** 2 * (end - from)) & -4;
    view.setUint32(Math.min(from + word, bytes.length - 4), pick(2) === 0 ? pick(1200) : oddNumber(pick), true);
  } else bytes[pick(bytes.length)] ^= 1 << pick(8);
};

const streams = [{}, { footer: false }, { markers: false }].map((options) => streamImage(CONTENT, options));

fuzzImages({
  title: "streamOptimized VMDKs",
  format: vmdk,
  runs: 300,
  make: (pick) => ({
    bytes: damaged(pick, streams[pick(streams.length)], (bytes, view, next) => {
      // The tables are behind the grains.
      const [from, to] = next(3) === 0 ? [0, 512] : [bytes.length - 6000, bytes.length];
      words(from, to)(bytes, view, next);
    }),
  }),
  reached: [...READ, ...HEADER, "refused: CORRUPT footer", "check: done", "repair: UNSUPPORTED"],
});

const line = (type: string) => descriptorText("custom", [`RW ${CONTENT.length / 512} ${type} "e"`]);
const looked = [
  ["odd vmfsSparse", twoImage(line("VMFSSPARSE"), cowdExtent(CONTENT, 3)), 20_000],
  ["seSparse", twoImage(line("SESPARSE"), seSparseExtent(CONTENT)), 3600],
  ["compressed", twoImage(line("SPARSE"), streamExtent(CONTENT, { footer: false })), 512],
] as const;

for (const [name, image, end] of looked) {
  fuzzImages({
    title: `${name} extents`,
    format: twoFiles,
    runs: 200,
    open: openTwo,
    make: (pick) => ({ bytes: damaged(pick, image, words(4096, 4096 + end)) }),
    reached: ["opened", "Read: Ok", "refused: CORRUPT header", "Write: ReadOnly", "check: done", "repair: done"],
  });
}

const cowds = [1, 8].map((grain) => twoImage(line("VMFSSPARSE"), cowdExtent(CONTENT, grain)));

fuzzImages({
  title: "vmfsSparse extents",
  format: twoFiles,
  runs: 300,
  open: openTwo,
  make: (pick) => ({
    bytes: damaged(pick, cowds[pick(2)], (bytes, view, next) => {
      words(4096, 4096 + 12_000)(bytes, view, next);
      if (next(8) === 0) view.setUint32(Math.min(4096 + 2048, bytes.length - 4), oddNumber(next), true);
      // Other grains are only read, as above.
      const grain = bytes.length < 4096 + 20 ? 1 : view.getUint32(4096 + 16, true);
      if (!Number.isInteger(Math.log2(grain))) view.setUint32(4096 + 16, 1, true);
    }),
  }),
  works: WHOLE_WORKS,
  reached: [...WHOLE, ...HEADER.slice(0, 1), "refused: CORRUPT grain directory"],
});
