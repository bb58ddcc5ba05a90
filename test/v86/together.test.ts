// Two emulators in one process, each with eight disks on all three controllers, at work at the same time: each disk holds in the
// end what its own guest has written to it, and nothing else.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect } from "vitest";
import { createDisk, MemoryStore, readBytes, writeBytes } from "../../src/node.ts";
import type { AttachOptions } from "../../src/v86/index.ts";
import { guestKit } from "../guest/kit/kit.ts";
import { guestTest } from "../support/guest.ts";
import { BLOCK, kitWithLoad, LOOP_BLOCKS, wrongBlocks } from "../support/hop-load.ts";
import { LateBlock } from "../support/late-block.ts";
import { Random } from "../support/random.ts";
import { Guest } from "../support/v86-guest.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-together-"));
afterAll(() => rmSync(folder, { recursive: true }));

const DISKS = 8;
/** The last block names the disk: whatever the guest calls it, it is loaded under that name. */
const NAME = LOOP_BLOCKS;
const READY = "while [ $(ls /dev/sd? /dev/vd? 2>/dev/null | wc -l) -lt 8 ]; do usleep 100000; done";
const START = `for d in /dev/sd? /dev/vd?; do
load $(dd if=$d bs=${BLOCK} skip=${NAME} count=1 2>/dev/null | head -c 2) $d 0 &
done`.replaceAll("\n", " ");
/** Writes of each disk before the load is ended. */
const ENOUGH = 40;

/** Disks a0 to a7, say: empty but for their names. */
async function makeDisks(letter: string, random: Random): Promise<LateBlock[]> {
  const made: LateBlock[] = [];
  for (let i = 0; i < DISKS; i++) {
    const disk = await createDisk(new MemoryStore(), { format: "raw", size: (LOOP_BLOCKS + 1) * BLOCK });
    await writeBytes(disk, NAME * BLOCK, new TextEncoder().encode(`${letter}${i}`.padEnd(512)));
    made.push(new LateBlock(disk, random));
  }
  return made;
}

const places = ([a, b, c, d, e, f, g, h]: LateBlock[]): AttachOptions => ({
  ...{
    ide: [
      [a, b],
      [c, d],
    ],
    virtio: [e, f],
    pvscsi: [g, h],
  },
});

guestTest(
  "two emulators with eight disks each, at work at the same time in one process",
  async () => {
    const random = new Random(8);
    const disks = [await makeDisks("a", random), await makeDisks("b", random)];
    const memory = 96 << 20;
    const kernel = { kit: kitWithLoad(guestKit(), folder) };
    const first = new Guest({ memory, kernel, ...places(disks[0]) });
    await first.expect("KIT: shell");
    await first.expect("/ # ");
    await first.run(`stty -echo cols 1000; dmesg -n 1; dmesg -c > /dev/null; ${READY}`);
    // The other one need not boot: it begins where the first one stands, over disks of its own.
    const second = new Guest({ memory, state: await first.emulator.save_state(), ...places(disks[1]) });
    await second.disks.ready;
    const guests = [first, second];
    await Promise.all(guests.map((guest) => guest.run(START)));
    // Moments at which both guests wait for disks.
    let both = 0;
    while (disks.flat().some(({ done }) => done.writes < ENOUGH)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (disks.every((each) => each.some(({ underWay }) => underWay.length > 0))) both++;
    }
    expect(both).toBeGreaterThan(0);
    await Promise.all(guests.map((guest) => guest.run("touch /tmp/stop; wait", 300)));
    for (const [i, guest] of guests.entries()) {
      expect(guest.output).not.toContain("BAD");
      expect(await guest.run("dmesg -c")).not.toMatch(/ata\d|scsi|sd |virtio|abort|I\/O error|not a head/i);
      await guest.stop();
      for (const [j, disk] of disks[i].entries()) {
        const name = `${"ab"[i]}${j}`;
        const rounds = Number(new RegExp(`END ${name} (\\d+);`).exec(guest.output)![1]);
        const wrong = await wrongBlocks({ name, device: "", first: 0 }, rounds, async (block) =>
          readBytes(disk, block * BLOCK, BLOCK),
        );
        expect(wrong).toEqual([]);
      }
    }
  },
  600_000,
  [["gcc", "gcc"]],
);
