import { createDisk, MemoryStore } from "../../src/index.ts";
import { guestKit } from "../../test/guest/kit/kit.ts";
import { Guest, type GuestOptions } from "../../test/support/v86-guest.ts";
import { table } from "../tables.ts";

// The same unmodified Linux on v86's own IDE controller and on our devices: dd with O_DIRECT, all in one run, in turn. Four
// emulators share this process; those that are not measured stand still.

const MiB = 2 ** 20;
const SIZE = 64 * MiB;
/** Of libata: no DMA at all. */
const PIO = "kit.libata=dma=0";

interface Subject {
  name: string;
  guest: Guest;
  device: string;
  /** What its speed is compared with. */
  yardstick: string;
}

interface Work {
  name: string;
  command(device: string): string;
  bytes: number;
  requests: number;
}

const dd = (name: string, write: boolean, kib: number, count: number): Work => ({
  name: `${name} ${kib} KiB`,
  command: (device) =>
    write
      ? `dd if=/dev/zero of=${device} bs=${kib}k count=${count} oflag=direct 2>/dev/null`
      : `dd if=${device} of=/dev/null bs=${kib}k count=${count} iflag=direct 2>/dev/null`,
  bytes: kib * 1024 * count,
  requests: count,
});

/** The device appears as the kernel finds it. */
async function boot(options: GuestOptions, append: string, devices: readonly string[]): Promise<Guest> {
  const guest = new Guest({ ...options, memory: 128 * MiB, kernel: { kit: guestKit(), append } });
  await guest.expect("/ # ", 300);
  await guest.run("stty -echo cols 1000");
  for (const device of devices) await guest.run(`until [ -b ${device} ]; do usleep 100000; done`);
  await guest.emulator.stop();
  return guest;
}

const disk = () => createDisk(new MemoryStore(), { format: "raw", size: SIZE });

async function subjects(): Promise<Subject[]> {
  const theirs = { v86: { hda: { buffer: new ArrayBuffer(SIZE) } } };
  const dma = await boot(theirs, "", ["/dev/sda"]);
  const pio = await boot({ v86: { hda: { buffer: new ArrayBuffer(SIZE) } } }, PIO, ["/dev/sda"]);
  const ours = await boot({ ide: [[await disk()]], virtio: [await disk()], pvscsi: [await disk()] }, "", [
    ...["/dev/sda", "/dev/sdb", "/dev/vda"],
  ]);
  await ours.emulator.run();
  // The one that ATA drives is called so.
  const ata = (
    await ours.run("for d in sda sdb; do grep -q ATA /sys/block/$d/device/vendor && echo $d; done; true")
  ).trim();
  await ours.emulator.stop();
  const ourPio = await boot({ ide: [[await disk()]] }, PIO, ["/dev/sda"]);
  return [
    { name: "v86's IDE, DMA", guest: dma, device: "/dev/sda", yardstick: "v86's IDE, DMA" },
    { name: "our IDE, DMA", guest: ours, device: `/dev/${ata}`, yardstick: "v86's IDE, DMA" },
    { name: "our virtio", guest: ours, device: "/dev/vda", yardstick: "v86's IDE, DMA" },
    { name: "our PVSCSI", guest: ours, device: ata === "sda" ? "/dev/sdb" : "/dev/sda", yardstick: "v86's IDE, DMA" },
    { name: "v86's IDE, PIO", guest: pio, device: "/dev/sda", yardstick: "v86's IDE, PIO" },
    { name: "our IDE, PIO", guest: ourPio, device: "/dev/sda", yardstick: "v86's IDE, PIO" },
  ];
}

async function measure(subject: Subject, { command, bytes }: Work): Promise<number> {
  const { guest, device } = subject;
  await guest.emulator.run();
  const start = performance.now();
  await guest.run(command(device));
  const seconds = (performance.now() - start) / 1000;
  await guest.emulator.stop();
  return bytes / MiB / seconds;
}

const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];

async function main(quick: boolean): Promise<void> {
  const part = quick ? 4 : 1;
  const works = [
    dd("read", false, 4, 1024 / part),
    dd("read", false, 64, 256 / part),
    dd("write", true, 4, 1024 / part),
    dd("write", true, 64, 256 / part),
  ];
  const all = await subjects();
  const speeds = new Map<string, number[]>();
  for (let round = -1; round < (quick ? 3 : 5); round++) {
    for (const work of works) {
      for (const subject of all) {
        const speed = await measure(subject, work);
        const key = `${subject.name}/${work.name}`;
        if (round >= 0) speeds.set(key, [...(speeds.get(key) ?? []), speed]);
      }
    }
  }
  const of = (name: string, work: Work) => median(speeds.get(`${name}/${work.name}`)!);
  const rows = all.map(({ name, yardstick }) => [
    name,
    ...works.flatMap((work) => {
      const speed = of(name, work);
      const iops = (speed * MiB) / (work.bytes / work.requests);
      return [`${speed.toFixed(1)}`, `${Math.round(iops)}`, `${(speed / of(yardstick, work)).toFixed(2)}×`];
    }),
  ]);
  console.log(table([["Linux in v86, MiB/s", ...works.flatMap(({ name }) => [name, "IOPS", "of v86's"])], ...rows]));
  for (const guest of new Set(all.map((each) => each.guest))) await guest.stop();
  process.exit(0);
}

await main(process.argv.includes("--quick"));
