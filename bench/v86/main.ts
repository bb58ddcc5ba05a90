// Our IDE controller and v86's, on one bus, under one driver (see run-v86.mjs).
import { compare, inProcess } from "../harness.ts";
import { ourRig, type Rig, v86Rig } from "./controllers.ts";

const DISK = 1 << 24;
const TABLE = 0x100000;
const BUFFER = 0x200000;
const ROUNDS = 11;

function disk(): Uint8Array {
  const bytes = new Uint8Array(DISK);
  for (let i = 0; i < DISK; i++) bytes[i] = (i * 31 + (i >>> 9)) & 0xff;
  return bytes;
}

function command({ ports }: Rig, code: number, lba: number, sectors: number): void {
  ports.out8(0x1f6, 0xe0 | (lba >>> 24));
  ports.out8(0x1f1, 0);
  ports.out8(0x1f2, sectors & 0xff);
  ports.out8(0x1f3, lba & 0xff);
  ports.out8(0x1f4, (lba >>> 8) & 0xff);
  ports.out8(0x1f5, (lba >>> 16) & 0xff);
  ports.out8(0x1f7, code);
}

/** 8 sectors a command, 256 words a DRQ block, Status read before each, as a driver that polls does. */
function readPio(rig: Rig, commands: number): number {
  const { ports } = rig;
  let sum = 0;
  for (let i = 0; i < commands; i++) {
    command(rig, 0x20, (i * 8) & 0x7ff8, 8);
    for (let block = 0; block < 8; block++) {
      sum += ports.in8(0x1f7) & 0x08;
      for (let word = 0; word < 256; word++) sum += ports.in16(0x1f0);
    }
    sum += ports.in8(0x1f7) & 0xc9;
  }
  return sum;
}

/** The same as Linux does it: `rep insw`, into memory. */
function readString(rig: Rig, commands: number): number {
  const { ports, ram } = rig;
  let sum = 0;
  for (let i = 0; i < commands; i++) {
    command(rig, 0x20, (i * 8) & 0x7ff8, 8);
    for (let block = 0; block < 8; block++) {
      sum += ports.in8(0x1f7) & 0x08;
      ports.insw(0x1f0, ram.subarray(BUFFER, BUFFER + 512));
      sum += ram[BUFFER + (i & 511)];
    }
    sum += ports.in8(0x1f7) & 0xc9;
  }
  return sum;
}

function writePio(rig: Rig, commands: number): number {
  const { ports } = rig;
  let sum = 0;
  for (let i = 0; i < commands; i++) {
    command(rig, 0x30, (i * 8) & 0x7ff8, 8);
    for (let block = 0; block < 8; block++) {
      sum += ports.in8(0x1f7) & 0x08;
      for (let word = 0; word < 256; word++) ports.out16(0x1f0, (word * 257) & 0xffff);
    }
    sum += ports.in8(0x1f7) & 0xc9;
  }
  return sum;
}

/** One command of `pages` descriptors of 4 KiB each. */
function dma(rig: Rig, commands: number, code: number, pages: number): number {
  const { ports, ram, busMaster } = rig;
  const view = new DataView(ram.buffer, ram.byteOffset);
  for (let page = 0; page < pages; page++) {
    view.setUint32(TABLE + page * 8, BUFFER + page * 4096, true);
    view.setUint32(TABLE + page * 8 + 4, 4096 | (page === pages - 1 ? 0x80000000 : 0), true);
  }
  let sum = 0;
  for (let i = 0; i < commands; i++) {
    ports.out32(busMaster + 4, TABLE);
    ports.out8(busMaster, code === 0xc8 ? 8 : 0);
    ports.out8(busMaster + 2, 6);
    command(rig, code, (i * 8) & 0x7f00, pages * 8);
    ports.out8(busMaster, code === 0xc8 ? 9 : 1);
    sum += ports.in8(busMaster + 2) & 4;
    ports.out8(busMaster, 0);
    sum += ports.in8(0x1f7) & 0xc9;
    ports.out8(busMaster + 2, 4);
    sum += ram[BUFFER + (i & 4095)];
  }
  return sum;
}

interface Case {
  name: string;
  /** What one figure is of. */
  unit: string;
  /** Of them in an operation. */
  per: number;
  operations: number;
  run(rig: Rig, operations: number): number;
}

const CASES: Case[] = [
  { name: "PIO read, 16 bits", unit: "word", per: 2048, operations: 300, run: readPio },
  { name: "PIO read, rep insw", unit: "word", per: 2048, operations: 300, run: readString },
  { name: "PIO write, 16 bits", unit: "word", per: 2048, operations: 300, run: writePio },
  { name: "READ DMA, 4 KiB", unit: "command", per: 1, operations: 20_000, run: (r, n) => dma(r, n, 0xc8, 1) },
  { name: "WRITE DMA, 4 KiB", unit: "command", per: 1, operations: 20_000, run: (r, n) => dma(r, n, 0xca, 1) },
  {
    name: "READ DMA, 64 KiB in 16 pages",
    unit: "command",
    per: 1,
    operations: 4_000,
    run: (r, n) => dma(r, n, 0xc8, 16),
  },
];

export function main(IDEController: new (...all: unknown[]) => object, only: string | undefined): void {
  for (const { name, unit, per, operations, run } of CASES) {
    if (only !== undefined && only !== name) continue;
    const rigs = [v86Rig(IDEController, disk()), ourRig(disk())];
    const names = ["v86", "paravane"];
    const results = compare(
      rigs.map((rig, i) => inProcess(names[i], (n) => run(rig, n))),
      operations,
      ROUNDS,
    );
    if (rigs[0].interrupts() !== rigs[1].interrupts())
      console.error(`${name}: v86 raised ${rigs[0].interrupts()} interrupts, we ${rigs[1].interrupts()}`);
    const [theirs, ours] = results.map(({ nsPerOperation }) => nsPerOperation / per);
    const figures = [`v86 ${theirs.toFixed(1)} ns`, `paravane ${ours.toFixed(1)} ns`, `${(theirs / ours).toFixed(2)}x`];
    console.log(`${name.padEnd(30)} per ${unit.padEnd(8)} ${figures.join("   ")}`);
  }
}
