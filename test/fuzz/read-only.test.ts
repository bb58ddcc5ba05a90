import { ParavaneError } from "../../src/core/error.ts";
import { openDisk } from "../../src/host/block/open.ts";
import { FORMATS } from "../../src/host/format/index.ts";
import { sparsebundle } from "../../src/host/format/sparsebundle/index.ts";
import { KeptStore } from "../support/disks.ts";
import type { Pick } from "../support/fuzz-disk.ts";
import { damaged, fuzzImages } from "../support/fuzz-images.ts";
import {
  dmgImage,
  dmgParts,
  mixed,
  ovf,
  paxRecords,
  qcow1Image,
  qedImage,
  READ_ONLY,
  sparseBundle,
  sparseImage,
  sumUp,
  type TarMember,
  tarOf,
} from "../support/read-only.ts";
import { streamImage } from "../support/vmdk.ts";

const CONTENT = mixed(1 << 20);
const VALUES = [
  0,
  1,
  2,
  3,
  8,
  11,
  32,
  255,
  511,
  512,
  513,
  4096,
  65536,
  2 ** 20,
  2 ** 28,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
];

/** Where the tables are: bytes from, to, and of an entry. */
interface Spots {
  header: [from: number, to: number];
  tables: [from: number, to: number][];
  reached: string[];
}

const SPOTS: Record<string, Spots> = {
  qed: {
    header: [0, 64],
    tables: [
      [4096, 4104],
      [12288, 14336],
    ],
    reached: ["refused: CORRUPT header", "refused: UNSUPPORTED header", "check: done"],
  },
  qcow: {
    header: [0, 48],
    tables: [
      [48, 56],
      [4096, 6144],
    ],
    reached: ["refused: CORRUPT header", "refused: UNSUPPORTED header", "check: done"],
  },
  bochs: {
    header: [0, 96],
    tables: [
      [512, 640],
      [640, 1160],
    ],
    reached: ["refused: CORRUPT header", "refused: UNSUPPORTED header", "check: done"],
  },
  sparseimage: {
    header: [0, 64],
    tables: [
      [64, 4096],
      [520_192, 524_288],
    ],
    reached: ["refused: CORRUPT sparse image header", "refused: CORRUPT band index node", "check: done"],
  },
  cloop: { header: [0, 136], tables: [[136, 400]], reached: ["refused: CORRUPT header", "check: done"] },
};

function poke(bytes: Uint8Array, view: DataView, pick: Pick, [from, to]: [number, number]): void {
  const value = pick(3) === 0 ? pick(2 ** 32) : pick(2) === 0 ? pick(300) : VALUES[pick(VALUES.length)];
  const at = from + pick((to - from) / 4) * 4;
  if (pick(8) === 0) bytes[at] ^= 1 << pick(8);
  else view.setUint32(at, value, pick(2) === 0);
}

const CHILDREN: Record<string, (content: Uint8Array, options: { parent: string }) => Uint8Array> = {
  qed: qedImage,
  qcow: qcow1Image,
};

for (const [name, { header, tables, reached }] of Object.entries(SPOTS)) {
  // Of so small bands that there are two nodes.
  const images = [name === "sparseimage" ? sparseImage(CONTENT, 512) : READ_ONLY[name](CONTENT)];
  const parent = new KeptStore(CONTENT.slice(0, 700_416));
  const child = CHILDREN[name]?.(CONTENT, { parent: "p" });
  fuzzImages({
    title: `${name} images`,
    format: FORMATS.find((format) => format.name === name)!,
    runs: name === "cloop" ? 300 : 600,
    make(pick, run) {
      const over = child && run % 4 === 1;
      const bytes = damaged(pick, over ? child : images[0], (copy, view) => {
        const what = pick(10);
        if (what < 3) poke(copy, view, pick, header);
        else if (what < 8) poke(copy, view, pick, tables[pick(tables.length)]);
        else copy[pick(copy.length)] ^= 1 << pick(8);
      });
      return { bytes, parent: over ? parent : undefined };
    },
    reached: ["opened", "Read: Ok", "Read: Media", ...reached],
  });
}

const PARTS = dmgParts(CONTENT);
const DMGS = [1, 3].flatMap((tables) => [false, true].map((fork) => ({ tables, fork })));

fuzzImages({
  title: "dmg images",
  format: FORMATS.find(({ name }) => name === "dmg")!,
  runs: 500,
  make(pick) {
    const parts = PARTS.map((part) => ({ ...part }));
    // The tables are behind base64, so they are damaged before they are packed into the image.
    if (pick(2) === 0) {
      const part = parts[pick(parts.length)];
      const what = pick(4);
      if (what === 0) part.method = [0, 1, 2, 3, 0x80000004, 0x80000006, 0x80000007, 0x80000008, 0x7ffffffe][pick(9)];
      else if (what === 1) part.size = [0, 512, 2 ** 26, 2 ** 27, 2 ** 40, 2 ** 52][pick(6)];
      else if (what === 2 && part.packed) part.packed = part.packed.subarray(0, pick(part.packed.length));
      else parts.splice(pick(parts.length), 1);
    }
    const image = dmgImage(parts, DMGS[pick(DMGS.length)]);
    if (pick(4) === 0) return { bytes: image };
    const bytes = damaged(pick, image, (copy, view) => {
      const what = pick(10);
      if (what < 4) poke(copy, view, pick, [copy.length - 512, copy.length]);
      else if (what < 7) copy[copy.length - 513 - pick(4096)] = pick(256);
      else copy[pick(copy.length)] ^= 1 << pick(8);
    });
    return { bytes };
  },
  reached: [
    ...["opened", "opened with a warning", "Read: Ok", "Read: Media", "check: done"],
    ...["refused: CORRUPT koly trailer", "refused: UNSUPPORTED koly trailer", "refused: CORRUPT property list"],
    ...["refused: CORRUPT resource fork", "refused: CORRUPT block table", "refused: UNSUPPORTED block table"],
  ],
});

const DISKS = [streamImage(CONTENT.slice(0, 300_032)), qedImage(CONTENT.slice(0, 300_032)), CONTENT.slice(0, 65536)];
const NAMES = ["disk.vmdk", "disk", "other.vmdk", "../disk.vmdk", "/etc/passwd", "", "vm.ovf", "x".repeat(99)];
const RECORDS = [
  ...["path=disk", "path=", "path=other.vmdk", "size=0", "size=512", "size=8589934592", "size=-1", "size=x"],
  ...["GNU.sparse.major=1", "GNU.sparse.name=disk", "GNU.sparse.size=1", "comment=c", "hdrcharset=BINARY"],
];

fuzzImages({
  title: "ova archives",
  format: FORMATS.find(({ name }) => name === "ova")!,
  runs: 1000,
  make(pick) {
    const disk = DISKS[pick(DISKS.length)];
    const members: TarMember[] = [
      { name: "vm.ovf", body: ovf(["disk"], pick(20) === 0 ? 'ovf:chunkSize="9"' : "") },
      { name: "disk", body: disk },
    ];
    // What stands before the disk, or in its place.
    for (let more = pick(3); more > 0; more--) {
      const name = NAMES[pick(NAMES.length)];
      const type = "0000xxgLKS1257"[pick(14)];
      const records = Array.from({ length: 1 + pick(3) }, () => RECORDS[pick(RECORDS.length)]);
      const body = "xg".includes(type)
        ? paxRecords(records)
        : type === "L"
          ? "disk\0"
          : DISKS[pick(3)].subarray(0, 999);
      members.splice(pick(3), 0, { name, type, body });
    }
    const sizes = [0, 1, 511, 513, 2 ** 31, 8 ** 11 - 1];
    // A disk with holes, as GNU tar keeps one.
    if (pick(12) === 0) members.find(({ name }) => name === "disk")!.type = "S";
    if (pick(6) === 0) members[pick(members.length)].size = sizes[pick(sizes.length)];
    const archive = tarOf(members);
    if (pick(2) === 0) return { bytes: archive };
    const bytes = damaged(pick, archive, (copy, view) => {
      const what = pick(10);
      // A header with a right sum, whatever else it says.
      const at = pick(2) * 512 * (1 + Math.ceil(members[0].body.length / 512));
      if (what < 3) {
        const field = [100, 124, 124, 156, 257, 345, 482][pick(7)];
        poke(copy, view, pick, [at + field, at + field + 8]);
        if (at + 512 <= copy.length) sumUp(copy.subarray(at, at + 512));
      } else if (what < 4) copy[at + pick(512)] = pick(256);
      else if (what < 6) copy[512 + pick(members[0].body.length)] = pick(256);
      else if (what < 9) copy[copy.length - 1025 - pick(4096)] = pick(256);
      else copy[pick(copy.length)] ^= 1 << pick(8);
    });
    return { bytes };
  },
  reached: [
    ...["opened", "opened with a warning", "Read: Ok", "Read: Media", "check: done"],
    ...["refused: CORRUPT tar header", "refused: UNSUPPORTED tar header", "refused: CORRUPT OVF descriptor"],
    ...["refused: UNSUPPORTED OVF descriptor", "refused: CORRUPT archive"],
  ],
});

const BUNDLE = sparseBundle(CONTENT);
const TEXTS = [
  "",
  "<",
  "</dict>",
  "0",
  "-1",
  "1e9",
  "99999999999999999999",
  "&amp;",
  "\0",
  "<key>size</key>",
  "512",
  "513",
];

function openFile(name: string): KeptStore {
  const bytes = BUNDLE.files[name];
  if (!bytes) throw new ParavaneError("NOT_FOUND", `there is no ${name}`);
  // Of the bands some are longer or shorter than they should be.
  const size = name === "bands/2" ? 20_000 : name === "bands/3" ? 700 : bytes.length;
  return new KeptStore(new Uint8Array(size).fill(1));
}

fuzzImages({
  title: "sparse bundles",
  format: { ...sparsebundle, check: (store) => sparsebundle.check!(store, { openFile }) },
  runs: 300,
  open: (store, options) => openDisk(store, { ...options, openFile }),
  make(pick) {
    let text = BUNDLE.info;
    for (let changes = pick(4); changes > 0; changes--) {
      // In the values more than elsewhere.
      const at = pick(2) === 0 ? pick(text.length) : text.indexOf("<integer>", pick(text.length)) + 9;
      text = text.slice(0, at) + TEXTS[pick(TEXTS.length)] + text.slice(at + pick(6));
    }
    return { bytes: new TextEncoder().encode(text) };
  },
  reached: ["opened", "Read: Ok", "Read: Media", "refused: CORRUPT property list", "check: done"],
});
