// One guest whose disks on IDE, virtio and PVSCSI, and a CD, are loaded at the same time, and all of it verified; then what goes
// over the IDE cable is damaged, and libata has to deal with that. By night the load goes on for an hour.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, expect } from "vitest";
import { Counted } from "../../src/cli/verb/boot/stats.ts";
import { type Disk, Op, withFaults } from "../../src/node.ts";
import { guestKit } from "../guest/kit/kit.ts";
import { diskTrouble } from "../support/dmesg.ts";
import { guestTest } from "../support/guest.ts";
import { tier } from "../support/tier.ts";
import { Guest } from "../support/v86-guest.ts";
import { loadDisk, takeOut, twoSessions } from "../support/v86-load.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-load-"));
afterAll(() => rmSync(folder, { recursive: true }));

const SECONDS = tier(120, 3600);
const NAMES = ["ide", "virtio", "pvscsi"];
/** More damaged transfers than the three that libata bears with, and fewer than the seven that end in PIO. */
const DAMAGE = [Op.Write, Op.Read].map((op) => ({ cause: "crc", ops: [op], every: 10, times: 3 }) as const);

guestTest(
  "a disc of two sessions; a mixed load without an error; damage on the IDE cable, and libata retries, slows down, and ends in PIO",
  async () => {
    const disks: Disk[] = [];
    for (const [i, format] of ["qcow2", "vhd", "vdi"].entries()) disks.push(await loadDisk(folder, format, NAMES[i]));
    const counted = disks.map((disk) => new Counted(disk));
    const [ide, virtio, pvscsi] = counted.map((disk) => withFaults(disk));
    const guest = new Guest({
      kernel: { kit: guestKit() },
      ...{ ide: [[ide], [{ cd: await twoSessions(folder) }]], virtio: [virtio], pvscsi: [pvscsi] },
    });
    await guest.expect("KIT: shell");
    await guest.expect("/ # ");
    await guest.run("stty -echo cols 1000; dmesg -n 1; mkdir /cd /ide /virtio /pvscsi");
    expect(await guest.run("cat /sys/class/ata_device/dev[12].0/xfer_mode")).toBe("XFER_UDMA_2\nXFER_UDMA_2\n");
    await guest.run(
      "mount -t ext4 /dev/vda /virtio && mount -t ext4 $(findfs LABEL=ide) /ide && mount -t ext4 $(findfs LABEL=pvscsi) /pvscsi",
    );

    // isofs looks where the table of contents has the last session; what that one's directory has of the first is read there.
    await guest.run(
      "cp -r /ide/tree /tmp/tree && mount -t iso9660 -o ro /dev/sr0 /cd && cmp /cd/random /tmp/tree/random",
    );
    expect(await guest.run("cat /cd/second")).toBe("session 2\n");

    await load(guest);
    if (SECONDS > 120)
      for (const [i, disk] of counted.entries()) console.info(`${SECONDS} s of load, ${disk.describe(NAMES[i])}`);
    expect(await guest.run("cat /sys/class/ata_device/dev1.0/xfer_mode")).toBe("XFER_UDMA_2\n");

    for (const rule of DAMAGE) for (const disk of [ide, pvscsi]) disk.fail(rule);
    await guest.run(
      "dmesg -c > /dev/null; for n in 1 2 3; do cp -r /tmp/tree /ide/d$n && cp -r /tmp/tree /pvscsi/d$n; done && sync",
      300,
    );
    const check = "(cd /$d/d$n && md5sum -c -s sums) || exit 1";
    await guest.run(
      `echo 3 > /proc/sys/vm/drop_caches && (for d in ide pvscsi; do for n in 1 2 3; do ${check}; done; done)`,
      300,
    );
    expect([ide.failed, pvscsi.failed]).toEqual([6, 6]);
    const log = await guest.run("dmesg");
    expect(log.match(/ata1.00: error: { ICRC ABRT }/g)).toHaveLength(6);
    expect(log.match(/ata1.00: failed command: (READ|WRITE) DMA/g)).toHaveLength(6);
    expect(log).toMatch(/ata1.00: limiting speed to UDMA\/25/);
    expect(await guest.run("cat /sys/class/ata_device/dev1.0/xfer_mode")).toBe("XFER_UDMA_1\n");

    // It does not end, so that libata goes on to PIO, which has no CRC.
    ide.fail({ cause: "crc", ops: [Op.Write], every: 2 });
    const copy = (to: string) =>
      guest.run(
        `cp -r /tmp/tree/folder /ide/${to} && sync && echo 3 > /proc/sys/vm/drop_caches && diff -r /tmp/tree/folder /ide/${to}`,
        300,
      );
    await copy("p1");
    expect(await guest.run("cat /sys/class/ata_device/dev1.0/xfer_mode; dmesg | grep limiting | tail -n 1")).toMatch(
      /^XFER_PIO_4\n.*limiting speed to PIO4\n$/,
    );
    const failed = ide.failed;
    await copy("p2");
    expect(ide.failed).toBe(failed);

    await guest.run("umount /ide /virtio /pvscsi /cd");
    await guest.stop();
    for (const [i, name] of ["d3", "tree", "d3"].entries()) {
      execFileSync("diff", ["-r", join(folder, "tree/tree"), await takeOut(disks[i], name, folder)]);
      await disks[i].close();
    }
  },
  (SECONDS + 600) * 1000,
);

/** The load on all of them at once; the kernel has nothing to say about it. */
async function load(guest: Guest): Promise<void> {
  guest.send(
    `for d in ${NAMES.join(" ")}; do sh /ide/load.sh /$d $d & done; sh /ide/read.sh /cd/random /tmp/tree/random &\n`,
  );
  await guest.expect("/ # ");
  const end = Date.now() + SECONDS * 1000;
  let output = "";
  while (Date.now() < end && !output.includes("LOAD:")) {
    await pause(Math.min(60_000, end - Date.now()));
    output += await guest.run("dmesg -c", 300);
    expect(diskTrouble(output)).toEqual([]);
  }
  output += await guest.run("touch /tmp/stop; wait; dmesg -c", 300);
  expect(diskTrouble(output)).toEqual([]);
  for (const name of NAMES) expect(output).toMatch(new RegExp(`LOAD: /${name} \\d+ rounds, [1-9]\\d* trees checked`));
  expect(output).toMatch(/LOAD: \/cd\/random read [1-9]\d* times/);
}
