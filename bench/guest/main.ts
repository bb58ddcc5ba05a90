import { table } from "../tables.ts";
import { account } from "./account.ts";
import { MiB, models, type Subject, tricks } from "./subjects.ts";

// The same unmodified Linux on v86's own IDE controller and on our devices: dd with O_DIRECT, all in one run, in turn. Five
// emulators share this process; those that are not measured stand still.

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

/** Speeds of all works, in turn: rows of a table. */
async function compare(subjects: readonly Subject[], works: readonly Work[], rounds: number): Promise<string[][]> {
  const speeds = new Map<string, number[]>();
  for (let round = -1; round < rounds; round++) {
    for (const work of works) {
      for (const subject of subjects) {
        const speed = await measure(subject, work);
        const key = `${subject.name}/${work.name}`;
        if (round >= 0) speeds.set(key, [...(speeds.get(key) ?? []), speed]);
      }
    }
  }
  const of = (name: string, work: Work) => median(speeds.get(`${name}/${work.name}`)!);
  return subjects.map(({ name, yardstick }) => [
    name,
    ...works.flatMap((work) => {
      const speed = of(name, work);
      const iops = (speed * MiB) / (work.bytes / work.requests);
      return [`${speed.toFixed(1)}`, `${Math.round(iops)}`, `${(speed / of(yardstick, work)).toFixed(2)}×`];
    }),
  ]);
}

/** What a request costs, and whom. */
async function accounts(subjects: readonly Subject[], work: Work): Promise<string[][]> {
  const rows: string[][] = [];
  for (const { name, guest, device } of subjects) {
    await guest.emulator.run();
    const found = await account(guest, () => guest.run(work.command(device)));
    await guest.emulator.stop();
    const all = found.guest + found.emulator + found.devices + found.idle;
    const share = (part: number) => `${((100 * part) / all).toFixed(1)} %`;
    rows.push([
      name,
      ...[found.callbacks, found.interrupts].map((count) => (count / work.requests).toFixed(1)),
      ...[all / work.requests].map((time) => time.toFixed(0)),
      ...[found.guest, found.emulator, found.devices, found.idle].map(share),
    ]);
  }
  return rows;
}

async function main(quick: boolean): Promise<void> {
  const part = quick ? 4 : 1;
  const rounds = quick ? 3 : 5;
  const reads = [dd("read", false, 4, 1024 / part), dd("read", false, 64, 256 / part)];
  const writes = [dd("write", true, 4, 1024 / part), dd("write", true, 64, 256 / part)];
  const works = [...reads, ...writes];
  const columns = (of: string) => works.flatMap(({ name }) => [name, "IOPS", of]);
  const all = await models();
  console.log(table([["Linux in v86, MiB/s", ...columns("of v86's")], ...(await compare(all, works, rounds))]));
  const less = await tricks(all);
  console.log(
    `\n${table([["without a trick, MiB/s", ...columns("of with")], ...(await compare(less, works, rounds))])}`,
  );
  const work = dd("read", false, 4, 4096 / part);
  const head = ["a read of 4 KiB", "callbacks", "interrupts", "µs", "guest's code", "emulator", "devices", "idle"];
  console.log(`\n${table([head, ...(await accounts([...all, ...less.slice(2)], work))])}`);
  for (const guest of new Set([...all, ...less].map((each) => each.guest))) await guest.stop();
  process.exit(0);
}

await main(process.argv.includes("--quick"));
