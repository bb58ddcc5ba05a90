import { describe, expect, test } from "vitest";
import { ScsiOp } from "../../../../assembly/spec/scsi.ts";
import { type BlockRequest, Op, Status } from "../../../../src/core/block.ts";
import { ParavaneError } from "../../../../src/core/error.ts";
import { SegmentList } from "../../../../src/core/segments.ts";
import { ScsiDisk, type ScsiDiskOptions } from "../../../../src/host/device/scsi/disk.ts";
import { carryOut, conclude, type DataBuffer } from "../../../../src/host/device/scsi/execute.ts";
import type { Outcome } from "../../../../src/host/device/scsi/outcome.ts";
import { FakeBlock, type FakeOptions } from "../../../support/fake-block.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const SIZE = 1 << 20;

/** A disk, an initiator's buffer of any size, and what comes of a CDB. */
class Rig {
  readonly block: FakeBlock;
  readonly disk: ScsiDisk;
  data = new Uint8Array(65536).fill(0xee);

  constructor(options: FakeOptions & Partial<ScsiDiskOptions> = {}) {
    this.block = new FakeBlock(SIZE, options);
    this.disk = new ScsiDisk({ ...options, block: this.block }, 0);
    this.disk.takeAttention();
  }

  run(...cdb: number[]): Outcome {
    const bytes = new Uint8Array(16);
    bytes.set(cdb);
    const buffer: DataBuffer = {
      memory: this.data,
      segments: SegmentList.of(0, this.data.length),
      bytes: this.data.length,
    };
    const result = carryOut(this.disk.begin(bytes), buffer, () => {});
    if (!("requests" in result)) return result;
    this.block.submit(result.requests);
    return conclude(result, this.disk.blockSize);
  }

  /** What an answer holds. */
  answer(...cdb: number[]): Uint8Array {
    this.data.fill(0xee);
    const { sense, bytes } = this.run(...cdb);
    expect(sense).toBeNull();
    return this.data.slice(0, bytes);
  }

  /** Key and code of the sense data. */
  sense(...cdb: number[]): [number, number] | null {
    const { sense } = this.run(...cdb);
    return sense && [sense.key, sense.code];
  }
}

const LBA_OUT_OF_RANGE = [5, 0x2100];
const INVALID_FIELD = [5, 0x2400];
const text = (bytes: Uint8Array, from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));
const u32 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);
const u16 = (bytes: Uint8Array, at: number) => new DataView(bytes.buffer, bytes.byteOffset).getUint16(at);

describe("INQUIRY", () => {
  test("standard data: a disk of SPC-4 that queues commands", () => {
    const rig = new Rig({ vendor: "ACME", product: "Disk", revision: "9", serial: "S1" });
    const bytes = rig.answer(ScsiOp.Inquiry, 0, 0, 0, 255);
    expect([...bytes.subarray(0, 8)]).toEqual([0, 0, 6, 0x12, 91, 0, 0, 2]);
    expect(text(bytes, 8, 36)).toBe("ACME    Disk            9   ");
    expect([u16(bytes, 58), u16(bytes, 60), u16(bytes, 62)]).toEqual([0x00a0, 0x0460, 0x04c0]);
    expect(rig.answer(ScsiOp.Inquiry, 0, 0, 0, 5).length).toBe(5);
    expect(rig.answer(ScsiOp.Inquiry, 0, 0, 0, 0).length).toBe(0);
  });

  test("vital product data: every page that page 0 lists, each with its length", () => {
    const rig = new Rig({ serial: "S1" });
    const list = rig.answer(ScsiOp.Inquiry, 1, 0, 0, 255);
    expect([...list.subarray(4)]).toEqual([0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2]);
    for (const page of list.subarray(4)) {
      const bytes = rig.answer(ScsiOp.Inquiry, 1, page, 0, 255);
      expect([bytes[0], bytes[1], u16(bytes, 2)]).toEqual([0, page, bytes.length - 4]);
    }
    expect(text(rig.answer(ScsiOp.Inquiry, 1, 0x80, 0, 255), 4, 24)).toBe(`S1${" ".repeat(18)}`);
    const identification = rig.answer(ScsiOp.Inquiry, 1, 0x83, 0, 255);
    // NAA, locally assigned; then T10 vendor identification.
    expect([identification[4], identification[5], identification[7], identification[8] >> 4]).toEqual([1, 3, 8, 3]);
    expect([identification[16], identification[17], identification[19]]).toEqual([2, 1, 40]);
    expect(text(identification, 20, 28)).toBe("PARAVANE");
    expect(identification.length).toBe(60);
  });

  test("limits: transfers, UNMAP, WRITE SAME; of a disk that cannot be written to only transfers", () => {
    const limits = new Rig({ sectorSize: 4096 }).answer(ScsiOp.Inquiry, 1, 0xb0, 0, 255);
    expect([limits[4], u16(limits, 6), u32(limits, 8)]).toEqual([1, 1, 8192]);
    expect([u32(limits, 20), u32(limits, 24), u32(limits, 28), u32(limits, 36), u32(limits, 40)]).toEqual([
      0xffffffff, 256, 1, 0, 8192,
    ]);
    const readOnly = new Rig({ readOnly: true });
    expect([...readOnly.answer(ScsiOp.Inquiry, 1, 0xb0, 0, 255).subarray(20)].every((byte) => byte === 0)).toBe(true);
    expect([...readOnly.answer(ScsiOp.Inquiry, 1, 0xb2, 0, 255).subarray(4)]).toEqual([0, 0, 0, 0]);
    expect([...new Rig().answer(ScsiOp.Inquiry, 1, 0xb2, 0, 255).subarray(4)]).toEqual([0, 0xe0, 2, 0]);
    expect(u16(new Rig().answer(ScsiOp.Inquiry, 1, 0xb1, 0, 255), 4)).toBe(1);
  });

  test("names of two disks differ by their serial numbers", () => {
    const name = (serial: string) => [...new Rig({ serial }).answer(ScsiOp.Inquiry, 1, 0x83, 0, 255).subarray(8, 16)];
    expect(name("S1")).not.toEqual(name("S2"));
    expect(name("S1")).toEqual(name("S1"));
  });

  test("refuses pages that there are not, CMDDT, a page without EVPD", () => {
    const rig = new Rig();
    expect(rig.sense(ScsiOp.Inquiry, 1, 0x99, 0, 255)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.Inquiry, 2, 0, 0, 255)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.Inquiry, 0, 0x80, 0, 255)).toEqual(INVALID_FIELD);
  });

  test.each([{ vendor: "VENDOR NO 9" }, { serial: "ä" }, { product: "x".repeat(17) }, { revision: "12345" }])(
    "%o is no identity",
    (identity) => {
      expect(() => new Rig(identity)).toThrow(ParavaneError);
    },
  );
});

describe("capacity", () => {
  test("READ CAPACITY (10) and (16)", () => {
    const rig = new Rig({ physicalBlockSize: 4096 });
    const short = rig.answer(ScsiOp.ReadCapacity10);
    expect([u32(short, 0), u32(short, 4), short.length]).toEqual([2047, 512, 8]);
    const long = rig.answer(ScsiOp.ServiceActionIn16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255);
    expect([u32(long, 0), u32(long, 4), u32(long, 8), long[13], long[14], long.length]).toEqual([
      0, 2047, 512, 3, 0x80, 32,
    ]);
    expect(rig.sense(ScsiOp.ServiceActionIn16, 0x11)).toEqual(INVALID_FIELD);
  });

  test("of more than 2 TiB: all ones in the short form, all of it in the long one", () => {
    const block = new SparseBlock(2 ** 42);
    const disk = new ScsiDisk({ block }, 0);
    disk.takeAttention();
    const ask = (...cdb: number[]) => {
      const work = disk.begin(Uint8Array.from({ length: 16 }, (_, i) => cdb[i] ?? 0));
      return work.kind === "data" ? work.bytes : new Uint8Array(0);
    };
    expect(u32(ask(ScsiOp.ReadCapacity10), 0)).toBe(0xffffffff);
    const long = ask(ScsiOp.ServiceActionIn16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32);
    expect([u32(long, 0), u32(long, 4)]).toEqual([1, 0xffffffff]);
    const work = disk.begin(Uint8Array.of(ScsiOp.Read16, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0, 0));
    expect(work).toMatchObject({ kind: "transfer", offset: 2 ** 42 - 512, length: 512 });
  });

  test.each([100, 8192 * 512 * 32768, 511, 768])("physical blocks of %i bytes cannot be", (physicalBlockSize) => {
    expect(() => new Rig({ physicalBlockSize })).toThrow(ParavaneError);
  });
});

describe("READ, WRITE, VERIFY", () => {
  const last = SIZE / 512 - 1;
  const forms: [bytes: number, form: (lba: number, blocks: number) => number[], read: ScsiOp, write: ScsiOp][] = [
    [6, (lba, blocks) => [0, lba >> 8, lba & 255, blocks], ScsiOp.Read6, ScsiOp.Write6],
    [10, (lba, blocks) => [0, 0, 0, lba >> 8, lba & 255, 0, 0, blocks], ScsiOp.Read10, ScsiOp.Write10],
    [12, (lba, blocks) => [0, 0, 0, lba >> 8, lba & 255, 0, 0, 0, blocks], ScsiOp.Read12, ScsiOp.Write12],
    [16, (lba, blocks) => [0, 0, 0, 0, 0, 0, 0, lba >> 8, lba & 255, 0, 0, 0, blocks], ScsiOp.Read16, ScsiOp.Write16],
  ];

  test.each(forms)(
    "in %i bytes: what was written is read, at the end of the disk and no further",
    (_, form, read, write) => {
      const rig = new Rig();
      const body = form(last - 1, 2);
      const past = form(last, 2);
      rig.data = new Uint8Array(1024).map((_, i) => i * 3);
      expect(rig.run(write, ...body)).toEqual({ sense: null, bytes: 1024, overrun: false });
      expect(rig.block.bytes.subarray(SIZE - 1024)).toEqual(rig.data);
      rig.data = new Uint8Array(1024);
      expect(rig.run(read, ...body).bytes).toBe(1024);
      expect(rig.data).toEqual(rig.block.bytes.subarray(SIZE - 1024));
      expect(rig.sense(read, ...past)).toEqual(LBA_OUT_OF_RANGE);
      expect(rig.sense(write, ...past)).toEqual(LBA_OUT_OF_RANGE);
    },
  );

  test("READ (6) of zero blocks is of 256, the others of none", () => {
    const rig = new Rig();
    rig.data = new Uint8Array(256 * 512);
    expect(rig.run(ScsiOp.Read6, 0, 0, 0, 0).bytes).toBe(256 * 512);
    expect(rig.run(ScsiOp.Read10, 0, 0, 0, 0, 0, 0, 0, 0).bytes).toBe(0);
    expect(rig.block.asked.length).toBe(1);
    expect(rig.sense(ScsiOp.Read10, 0, 0xff, 0xff, 0xff, 0xff)).toEqual(LBA_OUT_OF_RANGE);
  });

  test("more than page B0h's limit is refused", () => {
    const block = new SparseBlock(2 ** 30);
    const disk = new ScsiDisk({ block }, 0);
    disk.takeAttention();
    const read = (blocks: number) =>
      disk.begin(
        Uint8Array.of(
          ScsiOp.Read12,
          0,
          0,
          0,
          0,
          0,
          0,
          blocks >> 16,
          (blocks >> 8) & 255,
          blocks & 255,
          0,
          0,
          0,
          0,
          0,
          0,
        ),
      );
    expect(read(65536)).toMatchObject({ kind: "transfer", length: 32 << 20 });
    expect(read(65537)).toMatchObject({ kind: "sense", sense: { code: 0x2400, field: 6 } });
  });

  test("protection information is refused, as is comparing", () => {
    const rig = new Rig();
    expect(rig.sense(ScsiOp.Read10, 0x20)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.Write16, 0xe0)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.Verify10, 0x02)).toEqual(INVALID_FIELD);
  });

  test("VERIFY reads the medium and finds bad sectors", () => {
    const rig = new Rig();
    rig.data = new Uint8Array(0);
    expect(rig.run(ScsiOp.Verify10, 0, 0, 0, 0, 0, 0, 3, 0xe8)).toEqual({ sense: null, bytes: 0, overrun: false });
    expect(rig.block.asked).toEqual([{ op: Op.Read, offset: 0, length: 512_000 }]);
    rig.block.fault = (request) => {
      request.error = new ParavaneError("MEDIA", "bad", { offset: 700 });
      return Status.Media;
    };
    expect(rig.run(ScsiOp.Verify16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8).sense).toEqual({
      key: 3,
      code: 0x1100,
      lba: 1,
    });
    expect(rig.sense(ScsiOp.Verify12, 0, 0, 0, 8, 0, 0, 0, 0, 1)).toEqual(LBA_OUT_OF_RANGE);
  });

  test("a disk that cannot be written to refuses every way to change it", () => {
    const rig = new Rig({ readOnly: true });
    for (const code of [ScsiOp.Write6, ScsiOp.Write10, ScsiOp.Write12, ScsiOp.Write16])
      expect(rig.sense(code, 0, 0, 0, 1, 0, 0, 0, 1)).toEqual([7, 0x2700]);
    expect(rig.sense(ScsiOp.Unmap, 0, 0, 0, 0, 0, 0, 0, 24)).toEqual([7, 0x2700]);
    expect(rig.sense(ScsiOp.WriteSame16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)).toEqual([7, 0x2700]);
    expect(rig.block.asked).toEqual([]);
  });
});

describe("errors by cause", () => {
  const fails = (status: Status, op: Op) => {
    const rig = new Rig();
    rig.block.fault = () => status;
    return rig.sense(op === Op.Read ? ScsiOp.Read10 : ScsiOp.Write10, 0, 0, 0, 0, 0, 0, 0, 1);
  };
  test.each([
    [Status.OutOfRange, [5, 0x2100], [5, 0x2100]],
    [Status.Media, [3, 0x1100], [3, 0x0c00]],
    [Status.NoSpace, [7, 0x2707], [7, 0x2707]],
    [Status.ReadOnly, [7, 0x2700], [7, 0x2700]],
    [Status.Unsupported, [5, 0x2000], [5, 0x2000]],
    [Status.Io, [4, 0x4400], [4, 0x4400]],
    [Status.Crc, [0xb, 0x4703], [0xb, 0x4703]],
    [Status.Pending, [4, 0x4400], [4, 0x4400]],
  ] as const)("status %i", (status, read, write) => {
    expect(fails(status, Op.Read)).toEqual(read);
    expect(fails(status, Op.Write)).toEqual(write);
  });

  test("what a store says of its file is no sector of the disk", () => {
    const rig = new Rig();
    rig.block.fault = (request: BlockRequest) => {
      request.error = new ParavaneError("MEDIA", "bad", { offset: 0, file: "disk.vhd" });
      return Status.Media;
    };
    expect(rig.run(ScsiOp.Read10, 0, 0, 0, 0, 0, 0, 0, 1).sense).toEqual({ key: 3, code: 0x1100 });
  });
});

describe("UNMAP and WRITE SAME", () => {
  function list(rig: Rig, ...ranges: [lba: number, blocks: number][]): void {
    rig.data = new Uint8Array(8 + 16 * ranges.length);
    const view = new DataView(rig.data.buffer);
    view.setUint16(0, rig.data.length - 2);
    view.setUint16(2, 16 * ranges.length);
    ranges.forEach(([lba, blocks], i) => {
      view.setUint32(8 + 16 * i + 4, lba);
      view.setUint32(8 + 16 * i + 8, blocks);
    });
  }
  const unmap = (rig: Rig, length = rig.data.length, flags = 0) =>
    rig.sense(ScsiOp.Unmap, flags, 0, 0, 0, 0, 0, length >> 8, length & 255);

  test("UNMAP gives up each range, or none when one of them is wrong", () => {
    const rig = new Rig();
    list(rig, [8, 8], [0, 0], [2040, 8]);
    expect(unmap(rig)).toBeNull();
    expect(rig.block.asked).toEqual([
      { op: Op.Discard, offset: 4096, length: 4096 },
      { op: Op.Discard, offset: SIZE - 4096, length: 4096 },
    ]);
    list(rig, [8, 8], [2041, 8]);
    expect(unmap(rig)).toEqual(LBA_OUT_OF_RANGE);
    expect(rig.block.asked.length).toBe(2);
  });

  test("UNMAP of nothing is nothing; lists too short, too long, anchored are refused", () => {
    const rig = new Rig();
    list(rig, [8, 8]);
    expect(unmap(rig, 0)).toBeNull();
    expect(unmap(rig, 7)).toEqual([5, 0x1a00]);
    expect(unmap(rig, 8)).toBeNull();
    expect(unmap(rig, 23)).toBeNull();
    expect(unmap(rig, 24, 1)).toEqual(INVALID_FIELD);
    list(rig, ...Array.from({ length: 257 }, (): [number, number] => [0, 1]));
    expect(unmap(rig)).toEqual([5, 0x2600]);
    expect(rig.run(ScsiOp.Unmap, 0, 0, 0, 0, 0, 0, 0xff, 0xff).overrun).toBe(true);
    expect(rig.block.asked).toEqual([]);
  });

  const same = (rig: Rig, flags: number, lba: number, blocks: number) =>
    rig.sense(ScsiOp.WriteSame16, flags, 0, 0, 0, 0, 0, 0, lba >> 8, lba & 255, 0, 0, blocks >> 8, blocks & 255);

  test("WRITE SAME of zeros zeroes; of anything else fills", () => {
    const rig = new Rig({ sectorSize: 512 });
    rig.block.bytes.fill(0x77);
    rig.data = new Uint8Array(512);
    expect(same(rig, 0x08, 4, 300)).toBeNull();
    expect(same(rig, 0x01, 400, 3)).toBeNull();
    expect(rig.block.asked.map(({ op }) => op)).toEqual([Op.WriteZeroes, Op.WriteZeroes]);
    rig.data = new Uint8Array(512).map((_, i) => i);
    expect(same(rig, 0, 1000, 300)).toBeNull();
    for (let block = 0; block < 300; block++)
      expect(rig.block.bytes.subarray((1000 + block) * 512, (1001 + block) * 512)).toEqual(rig.data);
    expect([rig.block.bytes[999 * 512 + 511], rig.block.bytes[1300 * 512]]).toEqual([0x77, 0x77]);
    expect(rig.sense(ScsiOp.WriteSame10, 0, 0, 0, 7, 0, 0, 0, 2)).toBeNull();
    expect(rig.block.bytes.subarray(0x701 * 512, 0x702 * 512)).toEqual(rig.data);
  });

  test("WRITE SAME refuses none at all, too many, past the end, anchors, obsolete bits", () => {
    const rig = new Rig();
    expect(same(rig, 0, 0, 0)).toEqual(INVALID_FIELD);
    expect(same(rig, 0, 2047, 2)).toEqual(LBA_OUT_OF_RANGE);
    for (const flags of [0x10, 0x02, 0x04, 0x20]) expect(same(rig, flags, 0, 1)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.WriteSame10, 1, 0, 0, 0, 0, 0, 0, 1)).toEqual(INVALID_FIELD);
    rig.data = new Uint8Array(511);
    expect(rig.run(ScsiOp.WriteSame16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1).overrun).toBe(true);
    expect(rig.block.asked).toEqual([]);
  });
});

describe("MODE SENSE", () => {
  test("all pages, current and changeable, with and without block descriptor", () => {
    const rig = new Rig();
    const all = rig.answer(ScsiOp.ModeSense6, 0, 0x3f, 0, 255);
    expect([...all.subarray(0, 12)]).toEqual([55, 0, 0x10, 8, 0, 0, 8, 0, 0, 0, 2, 0]);
    expect([all[12], all[24], all[44]]).toEqual([1, 8, 0x0a]);
    // WCE: there is a write cache.
    expect(rig.answer(ScsiOp.ModeSense6, 8, 8, 0, 255)[6]).toBe(0x04);
    expect([...rig.answer(ScsiOp.ModeSense6, 8, 0x48, 0, 255).subarray(6)].every((byte) => byte === 0)).toBe(true);
    const long = rig.answer(ScsiOp.ModeSense10, 0x10, 0x0a, 0, 0, 0, 0, 1, 0);
    expect([u16(long, 0), long[3], long[4], u16(long, 6)]).toEqual([long.length - 2, 0x10, 1, 16]);
    expect([u32(long, 8), u32(long, 12), u32(long, 20), long[24]]).toEqual([0, 2048, 512, 0x0a]);
    expect(new Rig({ readOnly: true }).answer(ScsiOp.ModeSense6, 8, 8, 0, 4)[2]).toBe(0x90);
  });

  test("saved values, pages and sub-pages that there are not", () => {
    const rig = new Rig();
    expect(rig.sense(ScsiOp.ModeSense6, 0, 0xff, 0, 255)).toEqual([5, 0x3900]);
    expect(rig.sense(ScsiOp.ModeSense6, 0, 0x1c, 0, 255)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.ModeSense10, 0, 0x0a, 1)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.ModeSense10, 0, 0x3f, 0xff)).toBeNull();
  });
});

describe("the rest", () => {
  test("unit attention: once, but not for INQUIRY, REPORT LUNS and REQUEST SENSE", () => {
    const rig = new Rig();
    const raise = () => rig.disk.reset(0x2900);
    raise();
    rig.answer(ScsiOp.Inquiry, 0, 0, 0, 36);
    rig.answer(ScsiOp.ReportLuns, 0, 0, 0, 0, 0, 0, 0, 0, 16);
    expect(rig.sense(0xff)).toEqual([6, 0x2900]);
    expect(rig.sense(0xff)).toEqual([5, 0x2000]);
    raise();
    rig.disk.resized();
    const sense = rig.answer(ScsiOp.RequestSense, 0, 0, 0, 255);
    expect([sense.length, sense[0], sense[2], u16(sense, 12)]).toEqual([18, 0x70, 6, 0x2900]);
    expect(rig.answer(ScsiOp.RequestSense, 0, 0, 0, 255)[2]).toBe(0);
    expect(rig.sense(ScsiOp.RequestSense, 1, 0, 0, 255)).toEqual(INVALID_FIELD);
    rig.disk.resized();
    expect(rig.sense(ScsiOp.TestUnitReady)).toEqual([6, 0x2a09]);
    expect(rig.sense(ScsiOp.TestUnitReady)).toBeNull();
  });

  test("REPORT LUNS: logical unit 0, no well-known ones, no room for less than an entry", () => {
    const rig = new Rig();
    const luns = (select: number, room: number) => [ScsiOp.ReportLuns, 0, select, 0, 0, 0, 0, 0, 0, room];
    expect([...rig.answer(...luns(0, 255))]).toEqual([0, 0, 0, 8, ...new Array(12).fill(0)]);
    expect([...rig.answer(...luns(1, 255))]).toEqual(new Array(8).fill(0));
    expect(rig.sense(...luns(3, 255))).toEqual(INVALID_FIELD);
    expect(rig.sense(...luns(0, 15))).toEqual(INVALID_FIELD);
  });

  test("START STOP UNIT: stopping flushes, ejecting cannot be", () => {
    const rig = new Rig();
    expect(rig.sense(ScsiOp.StartStopUnit, 0, 0, 0, 1)).toBeNull();
    expect(rig.block.asked).toEqual([]);
    expect(rig.sense(ScsiOp.StartStopUnit, 0, 0, 0, 0)).toBeNull();
    expect(rig.block.asked.map(({ op }) => op)).toEqual([Op.Flush]);
    expect(rig.sense(ScsiOp.StartStopUnit, 0, 0, 0, 2)).toEqual(INVALID_FIELD);
    expect(rig.sense(ScsiOp.SynchronizeCache10, 0, 0, 0, 8, 1)).toEqual(LBA_OUT_OF_RANGE);
    expect(rig.sense(ScsiOp.SynchronizeCache16)).toBeNull();
  });

  test("every operation code is carried out or refused, whatever its bytes", () => {
    const rig = new Rig();
    let state = 1;
    const next = () => (state = (Math.imul(state, 1103515245) + 12345) >>> 0) >>> 16;
    for (let i = 0; i < 20_000; i++) {
      const cdb = Array.from({ length: 16 }, () => (next() & 3 ? 0 : next() & 255));
      cdb[0] = i & 255;
      rig.data = new Uint8Array(next() & 4095);
      const { sense } = rig.run(...cdb);
      if (sense) expect(sense.key).toBeGreaterThan(0);
    }
  });
});
