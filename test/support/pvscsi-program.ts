import { ScsiOp } from "../../assembly/spec/scsi.ts";
import { DISKS, WINDOW } from "./pvscsi-sides.ts";
import type { Random } from "./random.ts";

/** One request as both sides are given it. */
export interface PvscsiStep {
  cdb: number[];
  target: number;
  lun: number;
  flags: number;
  length: number;
  senseLength: number;
  contextHigh: number;
  /** What is in the window beforehand. */
  out?: Uint8Array;
  /** Segment list: offset into the window, length. */
  list?: [offset: number, length: number][];
}

/** Requests of one kick, after a command to the adapter perhaps. */
export interface PvscsiBatch {
  steps: PvscsiStep[];
  /** The other kick register. */
  other: boolean;
  command?: number[];
}

const SECTORS = DISKS[0] / 512;

/** Random programs: mostly what a driver would do, with one thing wrong now and then. */
export class PvscsiGenerator {
  readonly #random: Random;
  #quarter = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  batch(): PvscsiBatch {
    const random = this.#random;
    const count = 1 + random.below(4);
    const steps = Array.from({ length: count }, (_, i) => this.#step(i));
    // A byte of a command that is alone: it may then be for any part of the disk.
    const [{ cdb, length }] = steps;
    if (count === 1 && length > 0 && random.oneIn(12)) cdb[1 + random.below(cdb.length - 1)] = random.below(256);
    const batch: PvscsiBatch = { steps, other: random.oneIn(3) };
    if (random.oneIn(30))
      batch.command = random.pick([[4], [5, 0, 0, 0], [5, 9, 0, 0], [6, 1, 0, 0, 0], [2], [9], [11]]);
    return batch;
  }

  /** Each step of a batch keeps to a quarter of the disk: what is under way together has no order. */
  #step(index: number): PvscsiStep {
    const random = this.#random;
    this.#quarter = index;
    const step: PvscsiStep = {
      cdb: [],
      target: random.oneIn(5) ? 1 : random.oneIn(20) ? random.below(256) : 0,
      lun: random.oneIn(25) ? random.below(256) : 0,
      flags: 0,
      length: 0,
      senseLength: random.oneIn(8) ? 18 + random.below(46) : 64,
      contextHigh: random.oneIn(4) ? random.u32() : 0,
    };
    const kind = random.below(20);
    if (kind < 6) this.#transfer(step, false);
    else if (kind < 12) this.#transfer(step, true);
    else if (kind < 14) this.#unmap(step);
    else if (kind < 15) this.#same(step);
    else this.#other(step);
    if (step.length > 0 && random.oneIn(2)) step.list = this.#list(step.length);
    return step;
  }

  #place(): [lba: number, blocks: number] {
    const random = this.#random;
    const blocks = random.oneIn(10) ? 0 : 1 + random.below(WINDOW / 512);
    const first = (this.#quarter * SECTORS) / 4;
    const end = this.#quarter === 3 && random.oneIn(3);
    const lba = end ? SECTORS - random.below(40) : first + random.below(SECTORS / 4 - 40);
    return [lba, blocks];
  }

  #transfer(step: PvscsiStep, write: boolean): void {
    const random = this.#random;
    const [lba, blocks] = this.#place();
    const size = random.pick([6, 10, 12, 16] as const);
    const fua = random.oneIn(6) ? 8 : 0;
    const [high, low] = [lba >>> 8, lba & 255];
    if (size === 6) step.cdb = [write ? 0x0a : 0x08, 0, high, low, Math.max(1, blocks), 0];
    else if (size === 10) step.cdb = [write ? 0x2a : 0x28, fua, 0, 0, high, low, 0, 0, blocks, 0];
    else if (size === 12) step.cdb = [write ? 0xaa : 0xa8, fua, 0, 0, high, low, 0, 0, 0, blocks, 0, 0];
    else step.cdb = [write ? 0x8a : 0x88, fua, 0, 0, 0, 0, 0, 0, high, low, 0, 0, 0, blocks, 0, 0];
    step.flags = write ? 16 : 8;
    step.length = (size === 6 ? Math.max(1, blocks) : blocks) * 512;
    if (write) step.out = this.#noise(step.length);
  }

  #unmap(step: PvscsiStep): void {
    const random = this.#random;
    const count = random.below(4);
    const list = new Uint8Array(8 + 16 * count);
    const view = new DataView(list.buffer);
    view.setUint16(0, list.length - 2);
    view.setUint16(2, 16 * count);
    for (let i = 0; i < count; i++) {
      const [lba, blocks] = this.#place();
      view.setUint32(12 + 16 * i, lba);
      view.setUint32(16 + 16 * i, blocks);
    }
    const length = random.oneIn(8) ? random.below(list.length + 1) : list.length;
    step.cdb = [ScsiOp.Unmap, 0, 0, 0, 0, 0, 0, 0, length, 0];
    step.flags = 16;
    step.length = length;
    step.out = list;
  }

  #same(step: PvscsiStep): void {
    const random = this.#random;
    const [lba, blocks] = this.#place();
    const flags = random.oneIn(3) ? 8 : 0;
    const zero = random.oneIn(2) || flags !== 0;
    step.cdb = [ScsiOp.WriteSame16, flags, 0, 0, 0, 0, 0, 0, lba >>> 8, lba & 255, 0, 0, 0, blocks, 0, 0];
    step.flags = 16;
    step.length = 512;
    step.out = zero ? new Uint8Array(512) : this.#noise(512);
  }

  #other(step: PvscsiStep): void {
    const random = this.#random;
    const room = random.oneIn(3) ? random.below(64) : 252;
    const [lba, blocks] = this.#place();
    step.cdb = random.pick([
      [ScsiOp.TestUnitReady, 0, 0, 0, 0, 0],
      [ScsiOp.RequestSense, 0, 0, 0, room, 0],
      [ScsiOp.Inquiry, 0, 0, 0, room, 0],
      [ScsiOp.Inquiry, 1, random.pick([0, 0x80, 0x83, 0xb0, 0xb1, 0xb2, 0x99]), 0, room, 0],
      [ScsiOp.ModeSense6, random.oneIn(2) ? 8 : 0, random.pick([1, 8, 0x0a, 0x3f, 0x48, 0xc8, 0x1c]), 0, room, 0],
      [ScsiOp.ModeSense10, random.oneIn(2) ? 8 : 0, random.pick([1, 8, 0x0a, 0x3f]), 0, 0, 0, 0, 0, room, 0],
      [ScsiOp.ReadCapacity10, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [ScsiOp.ServiceActionIn16, random.oneIn(8) ? 0x11 : 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, room, 0, 0],
      [ScsiOp.ReportLuns, 0, random.pick([0, 0, 1, 2, 3]), 0, 0, 0, 0, 0, 0, room, 0, 0],
      [ScsiOp.SynchronizeCache10, 0, 0, 0, lba >>> 8, lba & 255, 0, 0, blocks, 0],
      [ScsiOp.StartStopUnit, 0, 0, 0, random.below(4), 0],
      [ScsiOp.Verify10, random.oneIn(4) ? 2 : 0, 0, 0, lba >>> 8, lba & 255, 0, 0, blocks, 0],
      [random.pick([0x04, 0x37, 0x5e, 0xa4, 0xff, 0x46, 0xbe]), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]);
    const data = [ScsiOp.RequestSense, ScsiOp.Inquiry, ScsiOp.ModeSense6, ScsiOp.ModeSense10, ScsiOp.ServiceActionIn16];
    if ([...data, ScsiOp.ReportLuns].includes(step.cdb[0])) {
      step.flags = 8;
      step.length = random.oneIn(10) ? random.below(300) : room;
    } else if (step.cdb[0] === ScsiOp.ReadCapacity10) {
      step.flags = 8;
      step.length = 8;
    }
  }

  /** Pieces of the window, in another order now and then, apart by a little. */
  #list(length: number): [number, number][] {
    const random = this.#random;
    const pieces: [number, number][] = [];
    for (let at = 0; at < length; ) {
      const part = Math.min(length - at, random.oneIn(3) ? 1 + random.below(700) : 4096);
      pieces.push([at, part]);
      at += part;
      if (random.oneIn(12)) pieces.push([at, 0]);
    }
    return pieces;
  }

  #noise(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i += 4) bytes[i] = this.#random.below(256);
    return bytes;
  }
}
