// The differential run: the same random register-level programs on our controller and on QEMU's PIIX3, compared after
// every step. What differs on purpose is in test/support/qtest-known.ts, each with the specification's verdict.
import { afterAll, describe, expect } from "vitest";
import { peerTest } from "../support/peers.ts";
import { CdGenerator } from "../support/qtest-cd-program.ts";
import { explain, Judge } from "../support/qtest-judge.ts";
import { type CdPlace, Generator, onlySecond, type Sizes } from "../support/qtest-program.ts";
import { Random } from "../support/random.ts";
import { tier } from "../support/tier.ts";

/** 300 GiB: more than 28 bits name. */
const LARGE = 300 * 2 ** 21;

interface Channel {
  name: string;
  channel: 0 | 1;
  sizes: Sizes;
  cd?: CdPlace;
  programs: number;
  /** Of them, at least, are the same to the end: what is listed may not hide the rest. */
  same: number;
}

const DISC = 400;

/** 10,500 programs in CI; a million at night. */
const CHANNELS: Channel[] = [
  { name: "two disks", channel: 0, sizes: [4096, LARGE], programs: tier(3800, 350_000), same: 0.85 },
  { name: "one disk", channel: 1, sizes: [4096, 0], programs: tier(2700, 250_000), same: 0.85 },
  { name: "two disks of odd geometry", channel: 0, sizes: [5117, 70_001], programs: tier(750, 50_000), same: 0.85 },
  { name: "device 1 alone", channel: 1, sizes: [0, 4096], programs: tier(750, 50_000), same: 0.85 },
  {
    name: "disk and CD",
    channel: 0,
    sizes: [4096, 0],
    cd: { drive: 1, sectors: DISC },
    programs: tier(1000, 120_000),
    same: 0.7,
  },
  {
    name: "CD and disk",
    channel: 1,
    sizes: [0, 4096],
    cd: { drive: 0, sectors: DISC },
    programs: tier(750, 90_000),
    same: 0.7,
  },
  {
    name: "CD alone",
    channel: 1,
    sizes: [0, 0],
    cd: { drive: 0, sectors: DISC },
    programs: tier(750, 90_000),
    same: 0.7,
  },
];

/** Minutes that the largest tier may take on a machine that does other things, too. */
const MINUTES = tier(10, 600);

describe("random programs on our controller and on QEMU's", () => {
  const report: string[] = [];
  afterAll(() => {
    for (const line of report) process.stdout.write(`${line}\n`);
  });

  for (const [machine, { name, channel, sizes, cd, programs, same: least }] of CHANNELS.entries()) {
    peerTest(
      "qemu-system-x86_64",
      "qemu-system-x86",
      name,
      async () => {
        const first = Number(process.env.PARAVANE_SEED ?? 1);
        const judge = new Judge(channel, sizes, MINUTES * 60, cd);
        const known = new Map<string, number>();
        let same = 0;
        let steps = 0;
        let retried = 0;
        try {
          for (let i = 0; i < programs; i++) {
            // The reporter hears from us now and then.
            if (i % 256 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
            const seed = first * 10_000_000 + machine * 1_000_000 + i;
            const random = new Random(seed);
            const any = (cd ? new CdGenerator(random, sizes, cd) : new Generator(random, sizes)).program();
            const program = cd || sizes[0] > 0 ? any : onlySecond(any);
            steps += program.length;
            let difference = judge.run(program);
            if (difference !== null && difference.known === undefined) {
              // A machine that is busy may have kept QEMU's I/O waiting for longer than we have.
              retried++;
              difference = judge.run(program);
            }
            if (difference === null) same++;
            else if (difference.known !== undefined) {
              known.set(difference.known, (known.get(difference.known) ?? 0) + 1);
            } else {
              const small = judge.shrink(program, difference);
              expect.fail(`seed ${seed}:\n${explain(small.program, small.difference)}`);
            }
          }
          judge.expectSameDisks();
        } finally {
          judge.close();
        }
        const parts = [...known].map(([what, count]) => `${what} ${count}`).join("; ");
        report.push(
          `${name}: ${programs} programs, ${steps} steps, ${same} the same to the end, ${retried} run again; ended by: ${parts}`,
        );
        expect(same).toBeGreaterThan(programs * least);
      },
      MINUTES * 60_000,
    );
  }
});
