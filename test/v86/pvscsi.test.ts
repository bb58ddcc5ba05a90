// Linux's own driver and SeaBIOS's on our PVSCSI adapter, beyond what test/v86/boot.test.ts has of it: each takes a boot of its
// own, so that CI has only what needs none.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect } from "vitest";
import { firmware } from "../../src/cli/verb/boot/firmware.ts";
import type { Block } from "../../src/core/block.ts";
import { createDisk, MemoryStore } from "../../src/node.ts";
import { type GuestKit, guestKit } from "../guest/kit/kit.ts";
import { buildDist, paravane } from "../support/dist.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { guestTest } from "../support/guest.ts";
import { peerTest } from "../support/peers.ts";
import { tier } from "../support/tier.ts";
import { Guest } from "../support/v86-guest.ts";

peerTest("/usr/share/seabios/bios-256k.bin", "seabios", "the firmware for PVSCSI is the one that has a driver", () => {
  const has = (model: "ide" | "virtio" | "pvscsi") =>
    Buffer.from(firmware(model, undefined, undefined).bios).includes("pvscsi");
  expect([has("ide"), has("virtio"), has("pvscsi")]).toEqual([false, false, true]);
});

const SCRIPT = `expect "KIT: GRUB" 120
expect "login: " 400
send "root\\n"
expect "guest# "
send "mount | grep ' / '; echo kept > /root/note; sync; cat /root/note\\n"
expect "/dev/sda1"
expect "kept"
send "poweroff\\n"
expect "System halted" 200
`;

describe.skipIf(!tier(false, true))("guests of its own (npm run test:nightly)", () => {
  const folder = mkdtempSync(join(tmpdir(), "paravane-pvscsi-"));
  const at = (name: string) => join(folder, name);
  let kit: GuestKit;
  beforeAll(async () => {
    kit = guestKit();
    await buildDist();
  }, 300_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  guestTest("paravane boot --disk-model pvscsi: SeaBIOS, GRUB, kernel and root from one disk", async () => {
    writeFileSync(at("script"), SCRIPT);
    const script = ["--snapshot", "--script", at("script")];
    const ended = await paravane(["boot", "--disk-model", "pvscsi", "--format", "raw", ...script, kit.disk]);
    expect(ended).toMatchObject({ code: 0 });
  });

  guestTest("a disk that takes too long: Linux aborts, resets, and goes on; disks come and go", async () => {
    const disk = await createDisk(new MemoryStore(), { format: "raw", size: 64 << 20 });
    let late = 0;
    const slow: Block = {
      ...{ size: disk.size, sectorSize: disk.sectorSize, readOnly: false, copied: 0 },
      close() {},
      submit: (batch) =>
        late === 0
          ? disk.submit(batch)
          : new Promise((resolve) => setTimeout(resolve, late)).then(() => disk.submit(batch)),
    };
    const guest = new Guest({ kernel: { kit }, pvscsi: [slow] });
    await guest.expect("KIT: shell");
    await guest.expect("/ # ");
    await guest.run("stty -echo cols 1000; dmesg -n 1; echo 2 > /sys/block/sda/device/timeout");
    await guest.run("dd if=/dev/urandom of=/tmp/a bs=64k count=4; dd if=/tmp/a of=/dev/sda bs=64k oflag=direct");
    const read = "dd if=/dev/sda of=/tmp/b bs=64k count=4 iflag=direct && cmp /tmp/a /tmp/b && dmesg -c";
    for (const [ms, log] of [
      [3000, /task abort/],
      [9000, /SCSI device reset[\s\S]*SCSI Bus reset/],
    ] as const) {
      await guest.run("dmesg -c");
      late = ms;
      setTimeout(() => {
        late = 0;
      }, 2500);
      expect(await guest.run(read, 200)).toMatch(log);
    }
    guest.disks.pvscsi?.plug(5, await createDisk(new MemoryStore(), { format: "raw", size: 1 << 20 }));
    await guest.run("sleep 2; [ -b /dev/sdb ]");
    await guest.disks.pvscsi?.unplug(5);
    await guest.run("sleep 2; [ ! -b /dev/sdb ]");
    await guest.stop();
  });

  guestTest("saved in mid-I/O and gone on with elsewhere, again and again: nothing lost, nothing wrong", async () => {
    let disk = new FakeBlock(16 << 20);
    let guest = new Guest({
      ...{ kernel: { kit }, memory: 128 << 20 },
      pvscsi: [late(disk)],
    });
    await guest.expect("KIT: shell");
    await guest.expect("/ # ");
    await guest.run("stty -echo cols 1000; dmesg -n 1; dd if=/dev/urandom of=/tmp/a bs=64k count=4; dmesg -c");
    const part = (way: string, flag: string) => `dd ${way} bs=64k count=4 ${flag}=$((i % 60 * 4))`;
    const round = [
      part("if=/tmp/a of=/dev/sda oflag=direct", "seek"),
      part("if=/dev/sda of=/tmp/b iflag=direct", "skip"),
      "cmp /tmp/a /tmp/b",
    ].join(" && ");
    guest.send(`i=0; while [ $i -lt 100 ]; do ${round} || echo BAD; i=$((i+1)); done 2>/dev/null; echo "<"done">"\n`);
    const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    for (let hop = 0; hop < 10; hop++) {
      await pause(200 + 61 * hop);
      while (guest.disks.pvscsi?.save().tasks.length === 0) await pause(1);
      // Taken in the call itself, and the disk's content with it.
      const saving = guest.emulator.save_state();
      const copy = new FakeBlock(16 << 20);
      copy.bytes.set(disk.bytes);
      const state = await saving;
      expect(guest.output).not.toContain("BAD");
      await guest.stop();
      disk = copy;
      guest = new Guest({ memory: 128 << 20, state, pvscsi: [late(disk)] });
      await guest.disks.ready;
    }
    await guest.expect("<done>", 200);
    expect(guest.output).not.toContain("BAD");
    await guest.expect("/ # ");
    expect(await guest.run("dmesg -c")).not.toMatch(/scsi|abort|I\/O error/i);
    await guest.stop();
  });
});

/** The disk, asynchronous: most of the time something is under way. */
function late(disk: Block): Block {
  return {
    ...{ size: disk.size, sectorSize: disk.sectorSize, readOnly: false, copied: 0 },
    close() {},
    submit: (batch) => new Promise((resolve) => setTimeout(resolve, 15)).then(() => disk.submit(batch)),
  };
}
