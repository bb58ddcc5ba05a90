// The same packets to our CD drive and to QEMU's, register by register over qtest: data, byte counts, interrupt reasons,
// status, Error, sense data. What differs on purpose is listed below, with the specification's verdict.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { attachIde } from "../../src/host/device/ide/controller.ts";
import { cdFromBlock } from "../../src/host/media/image.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { be, cdb } from "../support/cd.ts";
import { sectors } from "../support/disc.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { peerTest } from "../support/peers.ts";
import { Qtest } from "../support/qtest.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

const PROGRAMS = tier(1500, 30_000);
const SEED = Number(process.env.PARAVANE_SEED ?? 20261127);
const COUNT = 300;

const folder = mkdtempSync(join(tmpdir(), "paravane-cd-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Port accesses of the primary channel. */
interface Side {
  in(register: number, width: 1 | 2): number;
  out(register: number, width: 1 | 2, value: number): void;
  words(count: number): number[];
  feed(words: readonly number[]): void;
}

function ours(image: Uint8Array): Side {
  const machine = new LabMachine({ memory: 1 << 20 });
  const block = new FakeBlock(image.length);
  block.bytes.set(image);
  attachIde(machine, { drives: [[{ cd: cdFromBlock(block) }]], slot: 1 });
  const { guest } = machine;
  return {
    in: (register, width) => guest.in(0x1f0 + register, width),
    out: (register, width, value) => guest.out(0x1f0 + register, width, value),
    words: (count) => Array.from({ length: count }, () => guest.in(0x1f0, 2)),
    feed(words) {
      for (const word of words) guest.out(0x1f0, 2, word);
    },
  };
}

function theirs(qemu: Qtest): Side {
  const letter = { 1: "b", 2: "w" } as const;
  return {
    in: (register, width) => Number(qemu.command(`in${letter[width]} ${0x1f0 + register}`)),
    out: (register, width, value) => void qemu.command(`out${letter[width]} ${0x1f0 + register} ${value}`),
    words(count) {
      const got: number[] = [];
      for (let i = 0; i < count; i++) qemu.send(`inw ${0x1f0}`);
      qemu.flush((answer) => got.push(Number(answer)));
      return got;
    },
    feed(words) {
      for (const word of words) qemu.send(`outw ${0x1f0} ${word}`);
      qemu.flush();
    },
  };
}

interface Outcome {
  sizes: number[];
  data: string;
  status: number;
  error: number;
  reason: number;
}

/** Status once BSY is clear. */
function settled(side: Side): number {
  for (let i = 0; i < 10_000; i++) {
    const status = side.in(7, 1);
    if ((status & 0x80) === 0) return status;
  }
  throw new Error("BSY does not clear");
}

function exchange(side: Side, packet: Uint8Array, limit: number): Outcome {
  side.out(6, 1, 0xa0);
  side.out(1, 1, 0);
  side.out(4, 1, limit & 0xff);
  side.out(5, 1, limit >> 8);
  side.out(7, 1, 0xa0);
  settled(side);
  side.feed(Array.from({ length: 6 }, (_, i) => packet[2 * i] | (packet[2 * i + 1] << 8)));
  const sizes: number[] = [];
  const data: number[] = [];
  let status = settled(side);
  while (status & 0x08) {
    const size = side.in(4, 1) | (side.in(5, 1) << 8);
    sizes.push(size);
    for (const word of side.words((size + 1) >> 1)) data.push(word & 0xff, word >> 8);
    if (size % 2 === 1) data.pop();
    status = settled(side);
  }
  return { sizes, data: Buffer.from(data).toString("hex"), status, error: side.in(1, 1), reason: side.in(2, 1) & 7 };
}

/** What the sense data say: key and additional code; QEMU has no qualifiers. */
function sense(side: Side): string {
  const { data } = exchange(side, cdb(PacketOp.RequestSense, 0, 0, 0, 18), 0x800);
  return `${data.slice(4, 6)}/${data.slice(24, 26)}`;
}

/** Packets of commands that both have, with arguments that mean something, or nearly. */
function packet(random: Random): Uint8Array {
  const lba = be(
    random.oneIn(4) ? random.pick([COUNT - 1, COUNT, COUNT + 1, 0x7fffffff, 0x80000000]) : random.below(COUNT),
    4,
  );
  const count = random.below(5);
  // Even: with 16-bit reads QEMU never gets over the last byte of an odd count.
  const size = random.pick([0, 2, 4, 8, 12, 20, 36, 254]);
  const make: (() => number[])[] = [
    () => [PacketOp.TestUnitReady],
    () => [PacketOp.RequestSense, 0, 0, 0, size],
    () => [PacketOp.PreventAllow, 0, 0, 0, random.below(2)],
    () => [PacketOp.ReadCapacity],
    () => [PacketOp.Read10, 0, ...lba, 0, ...be(count, 2)],
    () => [PacketOp.Read12, 0, ...lba, ...be(count, 4)],
    () => [PacketOp.Seek10, 0, ...lba],
    () => [
      PacketOp.ReadToc,
      random.below(2) * 2,
      0,
      0,
      0,
      0,
      random.pick([0, 1, 2, 0xaa]),
      ...be(size, 2),
      random.below(2) << 6,
    ],
    () => [PacketOp.ReadDiscInformation, random.below(2), 0, 0, 0, 0, 0, ...be(Math.min(size, 12), 2)],
    () => [PacketOp.SetCdSpeed, 0, 0xff, 0xff],
    () => [PacketOp.ReadCd, 0, ...lba, ...be(count, 3), random.pick([0, 0x10, 0xf8])],
    () => [PacketOp.MechanismStatus, 0, 0, 0, 0, 0, 0, 0, ...be(0, 2)],
    () => [PacketOp.ModeSense10, 0, random.pick([0xc1, 0xea, 0x02, 0x3e]), 0, 0, 0, 0, ...be(size, 2)],
    () => [PacketOp.GetEventStatus, 0, 0, 0, 0x10, 0, 0, ...be(size, 2)],
    () => [PacketOp.ReadDiscStructure, 0, 0, 0, 0, 0, 0, random.pick([0, 1, 4, 0x80]), ...be(size, 2)],
    () => [random.pick([0x01, 0x08, 0x2a, 0x33, 0x5c, 0xa1, 0xb6, 0xff])],
  ];
  return cdb(...random.pick(make)());
}

interface Known {
  name: string;
  verdict: string;
  applies(packet: Uint8Array, ours: Outcome, theirs: Outcome): boolean;
  /** Of the outcomes or the sense data, only what is left to compare. */
  same?(ours: Outcome, theirs: Outcome): boolean;
}

/** Each with the specification's verdict. */
const KNOWN: Known[] = [
  {
    name: "REQUEST SENSE",
    verdict:
      "SPC-3: VALID stands for the information field, the sense-key specific bytes point at the field at fault, and the data are told once; QEMU sets VALID always, has no pointer, and goes on telling",
    applies: ([code]) => code === PacketOp.RequestSense,
    same: (a, b) => a.status === b.status && a.data.length === b.data.length,
  },
  {
    name: "EDC and ECC of raw sectors",
    verdict: "ECMA-130 §14: QEMU leaves them, and the minutes, seconds and frames in binary, not BCD (§14.2)",
    applies: ([code, , , , , , , , , flags], a, b) =>
      code === PacketOp.ReadCd && flags === 0xf8 && a.status === b.status,
    same(a, b) {
      const user = (hex: string) => (hex.match(/.{4704}/g) ?? []).map((sector) => sector.slice(32, 32 + 4096)).join("");
      return a.data.length === b.data.length && user(a.data) === user(b.data);
    },
  },
  {
    name: "control of the lead-out",
    verdict:
      "ECMA-130 §22.3.1: that of the track before it; QEMU adds the copy bit, which the track itself does not have",
    applies: ([code, , , , , , , , , format]) => code === PacketOp.ReadToc && format >> 6 === 0,
    same: (a, b) => a.data === b.data.replace("0016aa", "0014aa"),
  },
  {
    name: "first track of the last session",
    verdict: "MMC-6, READ TOC/PMA/ATIP: format 1 describes it; QEMU leaves the descriptor zero",
    applies: ([code, , , , , , , , , format]) => code === PacketOp.ReadToc && format >> 6 === 1,
    same: (a, b) => a.data.length === b.data.length && a.data.slice(0, 8) === b.data.slice(0, 8),
  },
];

const same = (a: Outcome, b: Outcome) => JSON.stringify(a) === JSON.stringify(b);

peerTest(
  "qemu-system-x86_64",
  "qemu-system-x86",
  `${PROGRAMS} packets: our drive and QEMU's give the same`,
  () => {
    const image = sectors(COUNT, 2048);
    const path = join(folder, "image.iso");
    writeFileSync(path, image);
    const drive = ["-drive", `file=${path},if=none,id=c,media=cdrom,format=raw,readonly=on`];
    const qemu = new Qtest([...drive, "-device", "ide-cd,bus=ide.0,unit=0,drive=c"], 240);
    try {
      const random = new Random(SEED);
      const [mine, other] = [ours(image), theirs(qemu)];
      const seen = new Map<string, number>();
      const count = (what: string) => seen.set(what, (seen.get(what) ?? 0) + 1);
      for (let i = 0; i < PROGRAMS; i++) {
        const bytes = packet(random);
        const limit = random.pick([2048, 0xfffe, 0xffff, 512, 1001, 4096, 7]);
        const [a, b] = [exchange(mine, bytes, limit), exchange(other, bytes, limit)];
        const known = KNOWN.find(({ applies }) => applies(bytes, a, b));
        const where = `packet ${i}: ${Buffer.from(bytes).toString("hex")}, limit ${limit}`;
        const differs = known !== undefined && !same(a, b);
        if (differs) {
          count(known.name);
          expect([where, known.same?.(a, b) ?? true]).toEqual([where, true]);
        } else expect([where, a]).toEqual([where, b]);
        count(`${bytes[0].toString(16)} ${a.status & 1 ? "error" : "ok"}`);
        if (a.status & 1) {
          const told = [sense(mine), sense(other)];
          if (!differs) expect([where, told[0]]).toEqual([where, told[1]]);
        }
      }
      // Nothing is listed that does not happen.
      expect(KNOWN.filter(({ name }) => !seen.has(name)).map(({ name }) => name)).toEqual([]);
    } finally {
      qemu.close();
    }
  },
  300_000,
);
