// The IDENTIFY part of QEMU's tests/qtest/hd-geo-test.c: what geometry the drives of an IDE controller tell. Each case is named
// after the one that it stands for. What that file checks in the CMOS is the firmware's, and comes with the emulator.
import { expect, test } from "vitest";
import { AtaRegister } from "../../../../assembly/spec/ata.ts";
import type { IdeDrive } from "../../../../src/host/device/ide/controller.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { IdeBench } from "../../../support/ide.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const SMALL = 61440;
const LARGE = 8388608;

type Geometry = readonly [cylinders: number, heads: number, sectorsPerTrack: number];

/** What translation a partition table suggests is between firmware and guest: the drive's own geometry stays. */
type Table = "blank" | "lba" | "chs";

function disk(sectors: number, table: Table): SparseBlock {
  const block = new SparseBlock(sectors * 512);
  if (table === "blank") return block;
  const record = new Uint8Array(512);
  // One partition to the end; by its last head, 255 heads (LBA) or 16.
  record.set([0x80, 1, 1, 0, 0x06, table === "lba" ? 254 : 15, 63, 29, 63, 0, 0, 0], 446);
  new DataView(record.buffer).setUint32(458, sectors - 63, true);
  record.set([0x55, 0xaa], 510);
  block.poke(0, record);
  return block;
}

/** Words 1, 3, 6 and 54 to 56 of a drive's IDENTIFY data; null when nobody answers. */
function geometry(ide: IdeBench, drive: number): number[] | null {
  ide.write(AtaRegister.Device, 0xa0 | (drive << 4));
  ide.write(AtaRegister.Command, 0xec);
  if ((ide.altStatus & 0x09) !== 0x08) return null;
  const bytes = ide.drain();
  return [1, 3, 6, 54, 55, 56].map((word) => bytes[word * 2] | (bytes[word * 2 + 1] << 8));
}

function check(channels: readonly [IdeDrive | null, Geometry | null][][]): void {
  channels.forEach((drives, channel) => {
    const all = channels.map((each) => each.map(([drive]) => drive));
    const ide = new IdeBench(all, { channel: channel as 0 | 1 });
    drives.forEach(([, want], drive) => {
      expect(geometry(ide, drive), `channel ${channel}, drive ${drive}`).toEqual(want ? [...want, ...want] : null);
    });
  });
}

const CHST = { small: [60, 16, 63], large: [8322, 16, 63] } as const;
/** setup_ide in their file: a small and a large disk on the first channel. */
const both = (table: Table) => [
  [[disk(SMALL, table), CHST.small] as [IdeDrive, Geometry], [disk(LARGE, table), CHST.large] as [IdeDrive, Geometry]],
];

test("hd-geo/ide/none", () => {
  check([
    [
      [null, null],
      [null, null],
    ],
    [
      [null, null],
      [null, null],
    ],
  ]);
});

test.each([
  ["hd-geo/ide/drive/mbr/blank", "blank"],
  ["hd-geo/ide/drive/mbr/lba", "lba"],
  ["hd-geo/ide/drive/mbr/chs", "chs"],
] as const)("%s", (_name, table) => check(both(table)));

test("hd-geo/ide/drive/cd_0", () => {
  const cd = { cd: cdFromBlock(new FakeBlock(2048)) };
  check([[[cd, null]], [[disk(SMALL, "blank"), CHST.small]]]);
});

test.each([
  ["hd-geo/ide/device/mbr/blank", "blank"],
  ["hd-geo/ide/device/mbr/lba", "lba"],
  ["hd-geo/ide/device/mbr/chs", "chs"],
] as const)("%s", (_name, table) =>
  check(both(table).map((drives) => drives.map(([block, want]) => [{ block } as IdeDrive, want]))),
);

/** cyls, heads and secs given; the second case has a translation, too, which is the firmware's. */
test.each(["hd-geo/ide/device/user/chs", "hd-geo/ide/device/user/chst"])("%s", () => {
  const want = [SMALL / (4 * 32), 4, 32] as const;
  const given = { cylinders: want[0], heads: want[1], sectorsPerTrack: want[2] };
  check([[[{ block: disk(SMALL, "chs"), geometry: given } as IdeDrive, want]]]);
});
