import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { cpio } from "../guest/kit/cpio.ts";
import type { GuestKit } from "../guest/kit/kit.ts";

/** A loop of test/support/hop-load.c, which writes numbered blocks and reads earlier ones back. */
export interface Loop {
  /** Two characters. */
  name: string;
  device: string;
  /** Of its part of the disk, in blocks. */
  first: number;
}

export const BLOCK = 65536;
/** Blocks that a loop writes one after the other, and those of its flushed writes, which stand behind them. */
const SLOTS = 32;
const FLUSHED = 4;
const EVERY = 8;
export const LOOP_BLOCKS = SLOTS + FLUSHED;
/** Rounds are numbered from here, so that all numbers are as long. */
const FROM = 1_000_000;

const GCC = [
  "-m32",
  "-O2",
  "-Wall",
  "-Wextra",
  "-Werror",
  "-ffreestanding",
  "-nostdlib",
  "-static",
  "-no-pie",
  "-fno-pie",
];
/** Without these it would want a C library after all. */
const BARE = ["-fno-stack-protector", "-fno-tree-loop-distribute-patterns", "-fno-asynchronous-unwind-tables", "-s"];

/** The kit with the load in its initramfs, as /bin/load: an archive behind an archive is unpacked over it. */
export function kitWithLoad(kit: GuestKit, folder: string): GuestKit {
  const program = join(folder, "load");
  execFileSync("gcc", [...GCC, ...BARE, "-o", program, "test/support/hop-load.c"]);
  const more = cpio([{ name: "bin/load", mode: 0o100755, data: readFileSync(program) }]);
  const initrd = join(folder, "initrd");
  writeFileSync(initrd, Buffer.concat([readFileSync(kit.initrd), gzipSync(more)]));
  return { ...kit, initrd };
}

/** What a loop that ended before round `rounds` has left in each of its blocks: its number, or null where it wrote nothing. */
function lastRounds(rounds: number): (number | null)[] {
  const slots = Array.from({ length: SLOTS }, (_, slot) => {
    const last = rounds - 1 - ((rounds - 1 - slot + SLOTS) % SLOTS);
    return last < 0 ? null : last;
  });
  const flushed = Math.floor(rounds / EVERY) * EVERY - 1;
  return [...slots, ...Array.from({ length: FLUSHED }, () => (flushed < 0 ? null : flushed))];
}

/** Blocks of the loop's part of the disk, read from it by `read`, that are not what so many rounds leave. */
export async function wrongBlocks(
  { name }: Loop,
  rounds: number,
  read: (block: number) => Promise<Uint8Array>,
): Promise<string[]> {
  const wrong: string[] = [];
  for (const [block, round] of lastRounds(rounds).entries()) {
    const bytes = Buffer.from(await read(block));
    const want = Buffer.alloc(BLOCK, round === null ? "\0" : `${name} ${FROM + round} ....\n`);
    if (!bytes.equals(want)) wrong.push(`${name}, block ${block}: ${bytes.toString("latin1", 0, 15)}, not of ${round}`);
  }
  return wrong;
}
