import { readFileSync, writeFileSync } from "node:fs";
import { FileStore, openDisk } from "../../src/node.ts";
import type { GuestKit } from "../guest/kit/kit.ts";
import type { Loop } from "./hop-load.ts";
import { type Asked, LateBlock, type Tally } from "./late-block.ts";
import { Random } from "./random.ts";
import { Guest } from "./v86-guest.ts";

/** What one process does with a guest: starts it or goes on with it, and leaves it in the middle of its work, or ends that. */
export interface HopJob {
  kit: GuestKit;
  /** Paths of images, by what the guest has them on. */
  images: [ide: string, virtio: string, pvscsi: string];
  loops: Loop[];
  seed: number;
  /** The state to go on from; absent: boot, and begin the load. */
  load?: string;
  /** Where to keep the state; absent: the load is ended. */
  save?: string;
  /** Batches that the disks are to be given before it is saved. */
  after: number;
  /** What is under way when it has been saved reaches the disks, or never does. */
  leave: "finish" | "drop";
}

/** By disk, in the job's order. */
export interface HopReport {
  /** Asked for by the devices before the guest went on. */
  again: Asked[][];
  /** Under way when it was saved. */
  underWay: Asked[][];
  done: Tally[];
  /** What the guest wrote. */
  output: string;
  /** The lines of the guest's own statistics (Documentation/admin-guide/iostats.rst), where it has been asked. */
  stats?: string[];
  /** What its kernel said since the load began. */
  log?: string;
}

const MEMORY = 96 << 20;

/** Linux names SCSI disks as they come: a link for each disk, whatever it is called. */
const NAME_DISKS = [
  "while [ ! -b /dev/sda ] || [ ! -b /dev/sdb ]; do usleep 100000; done",
  "case $(cat /sys/block/sda/device/vendor) in ATA*) set sda sdb;; *) set sdb sda;; esac",
  "ln -s /dev/$1 /dev/ide; ln -s /dev/vda /dev/virtio; ln -s /dev/$2 /dev/pvscsi",
].join("; ");
const STATISTICS = "for d in ide virtio pvscsi; do cat /sys/block/$(basename $(readlink /dev/$d))/stat; done";

async function hop(job: HopJob): Promise<HopReport> {
  const random = new Random(job.seed);
  const disks: LateBlock[] = [];
  for (const path of job.images) {
    const disk = await openDisk(new FileStore(path, { async: true, durable: false }));
    disks.push(new LateBlock(disk, random));
  }
  const [ide, virtio, pvscsi] = disks;
  const report: HopReport = { again: [], underWay: [], done: disks.map(({ done }) => done), output: "" };
  const from = job.load === undefined ? undefined : readFileSync(job.load);
  const state = from?.buffer.slice(from.byteOffset, from.byteOffset + from.length) as ArrayBuffer | undefined;
  const guest = new Guest({
    ...{ memory: MEMORY, ide: [[ide]], virtio: [virtio], pvscsi: [pvscsi] },
    ...(state ? { state } : { kernel: { kit: job.kit } }),
  });
  await new Promise<void>((resolve) => {
    guest.emulator.add_listener("emulator-loaded", () => {
      report.again = disks.map(({ underWay }) => underWay);
      resolve();
    });
  });
  if (!state) report.stats = await begin(guest, job.loops, disks);
  if (job.save === undefined) await end(guest, job.loops, report);
  else {
    await moment(disks, job.after, random);
    // The state, and how far each disk has got, are of one moment: there is no turn between them.
    const saving = guest.emulator.save_state();
    report.underWay = disks.map(({ underWay }) => underWay);
    report.done = disks.map(({ done }) => ({ ...done }));
    const stopping = guest.emulator.stop();
    if (job.leave === "drop") for (const disk of disks) disk.drop();
    writeFileSync(job.save, new Uint8Array(await saving));
    await stopping;
    if (job.leave === "finish") await guest.disks.close();
  }
  report.output = guest.output;
  for (const disk of disks) await disk.close();
  return report;
}

/** Begins the load; the guest's statistics until then. */
async function begin(guest: Guest, loops: readonly Loop[], disks: readonly LateBlock[]): Promise<string[]> {
  await guest.expect("KIT: shell");
  await guest.expect("/ # ");
  await guest.run("stty -echo cols 1000; dmesg -n 1; dmesg -c > /dev/null");
  await guest.run(NAME_DISKS);
  const stats = await statistics(guest);
  for (const { done } of disks) Object.assign(done, { reads: 0, readBytes: 0, writes: 0, writtenBytes: 0, flushes: 0 });
  const starts = loops.map(({ name, device, first }) => `load ${name} ${device} ${first} &`);
  await guest.run(`{ ${starts.join(" ")} }`);
  return stats;
}

async function end(guest: Guest, loops: readonly Loop[], report: HopReport): Promise<void> {
  await guest.run("touch /tmp/stop; wait", 300);
  for (const { name } of loops) if (!guest.output.includes(`END ${name} `)) throw new Error(guest.output);
  report.stats = await statistics(guest);
  report.log = await guest.run("dmesg -c");
  await guest.stop();
}

async function statistics(guest: Guest): Promise<string[]> {
  return (await guest.run(STATISTICS)).trim().split("\n");
}

/** So many batches later, and a few turns of the event loop; and then the first time that something is under way. */
async function moment(disks: readonly LateBlock[], after: number, random: Random): Promise<void> {
  const batches = () => disks.reduce((sum, disk) => sum + disk.batches, 0);
  const enough = batches() + after;
  while (batches() < enough) await new Promise(setImmediate);
  for (let turns = random.below(8); turns > 0; turns--) await new Promise(setImmediate);
  while (disks.every(({ underWay }) => underWay.length === 0)) await new Promise(setImmediate);
}

// It does not end by itself: its end could be heard of before its answer.
process.on("message", async (job: HopJob) => {
  process.send!(await hop(job).catch((thrown) => ({ error: String(thrown?.stack ?? thrown) })));
});
