import { execFile, execFileSync, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect } from "vitest";
import { cdFromBlock, copyDisk, createDisk, createFile, MemoryStore, openCueFile, openFile } from "../../src/node.ts";
import { type GuestKit, guestKit, KIT_TOOLS } from "../guest/kit/kit.ts";
import { buildDist, paravane } from "../support/dist.ts";
import { diskTrouble } from "../support/dmesg.ts";
import { guestTest } from "../support/guest.ts";
import { found } from "../support/peers.ts";
import { Guest } from "../support/v86-guest.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-guest-"));
const at = (name: string) => join(folder, name);
const run = promisify(execFile);
let kit: GuestKit;
beforeAll(async () => {
  if (KIT_TOOLS.every(([tool]) => found(tool))) kit = guestKit();
  await buildDist();
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true }));

/** The file system at that byte is in order, by e2fsck's account. */
async function checkExt(path: string, offset: number): Promise<void> {
  await run("e2fsck", ["-fn", `${path}?offset=${offset}`]);
}

async function toRaw(path: string): Promise<string> {
  const raw = `${path}.raw`;
  expect(await paravane(["img", "convert", "-O", "raw", path, raw])).toMatchObject({ code: 0 });
  return raw;
}

guestTest(
  "firmware, boot loader, kernel, ext4 root and login from a qcow2; mkfs, a checked copy and power-off",
  async () => {
    execFileSync("qemu-img", ["convert", "-O", "qcow2", kit.disk, at("root.qcow2")]);
    const root = await openFile(at("root.qcow2"));
    const data = await createFile(at("data.qcow2"), { format: "qcow2", size: 600 << 20 });
    const iso = cdFromBlock(await openFile(kit.cd, { format: "raw", readOnly: true }));
    const guest = new Guest({ ide: [[root, data], [{ cd: iso }]] });
    await guest.login();
    expect(await guest.run("cat /sys/class/ata_device/dev1.?/xfer_mode")).toBe("XFER_UDMA_2\nXFER_UDMA_2\n");
    // Linux probes disks at the same time, and names them as they come.
    const device = (await guest.run("[ -b /dev/sda1 ] && echo /dev/sdb || echo /dev/sda")).trim();
    await guest.run(`mkfs.ext4 -q ${device} && mount ${device} /mnt`);
    // 200 MB that no two blocks of are alike, and cheap for an emulated processor to make and to sum.
    await guest.run(
      "seq 1 24 | while read n; do (echo $n; cat /boot/vmlinuz; echo $n; cat /boot/initrd); done > /mnt/one",
      300,
    );
    expect(Number(await guest.run("stat -c %s /mnt/one"))).toBeGreaterThan(180e6);
    await guest.run("cp /mnt/one /mnt/two && sync && echo 3 > /proc/sys/vm/drop_caches", 300);
    await guest.run("cmp /mnt/one /mnt/two && tail -c 20000000 /mnt/two > /root/tail && sync", 300);
    const sum = (await guest.run("md5sum < /root/tail")).slice(0, 32);
    await askDrives(guest, device);
    await changeDiscs(guest);
    expect(diskTrouble(await guest.run("dmesg"))).toEqual([]);
    await guest.powerOff();
    await guest.stop();
    await root.close();
    await data.close();
    for (const name of ["root.qcow2", "data.qcow2"]) await run("qemu-img", ["check", "-q", at(name)]);
    await checkExt(await toRaw(at("data.qcow2")), 0);
    const raw = await toRaw(at("root.qcow2"));
    await checkExt(raw, 1 << 20);
    const read = execFileSync("debugfs", ["-R", "cat /root/tail", `${raw}?offset=${1 << 20}`], {
      maxBuffer: 64 << 20,
      stdio: ["ignore", "pipe", "ignore"],
    });
    expect(execFileSync("md5sum", { input: read, encoding: "utf8" }).slice(0, 32)).toBe(sum);
    const inQemu = await bootInQemu(at("root.qcow2"), { format: "qcow2", bus: "ide", command: "md5sum < /root/tail" });
    expect(inQemu).toContain(sum);
  },
);

/** What Debian's own tools say of the disk that is not the root. */
async function askDrives(guest: Guest, device: string): Promise<void> {
  const identity = await guest.run(`hdparm -I ${device}`);
  for (const word of [
    "*udma2",
    "Write cache",
    "SMART feature set",
    "device size with M = 1024*1024:         600 MBytes",
  ]) {
    expect(identity).toContain(word);
  }
  const health = await guest.run(`smartctl -a ${device}`);
  expect(health).toContain("test result: PASSED");
  expect(health).toMatch(/ATA Error Count|No Errors Logged/);
  await guest.run(`smartctl -t short ${device}`);
  expect(await guest.run(`hdparm -W ${device}`)).toMatch(/write-caching = {2}1 \(on\)/);
  expect(await guest.run(`sg_inq ${device}`)).toContain("ATA");
}

/** A disc is mounted, given away when it is not needed, and another one read: files, then an audio disc's table of contents. */
async function changeDiscs(guest: Guest): Promise<void> {
  const tray = guest.disks.ide!.tray(1, 0);
  await guest.run("mkdir -p /cd && mount -t iso9660 -o ro /dev/sr0 /cd");
  expect(await guest.run("cat /cd/marker")).toBe("El Torito\n");
  expect(() => tray.eject()).toThrow(expect.objectContaining({ code: "BUSY" }));
  expect(await guest.run("sg_raw -r 36 /dev/sr0 12 00 00 00 24 00 2>&1")).toMatch(/05 80/);
  await guest.run("umount /cd && eject /dev/sr0");
  expect(tray.isOpen).toBe(true);
  writeFileSync(at("songs.bin"), new Uint8Array(600 * 2352));
  writeFileSync(
    at("songs.cue"),
    'FILE "songs.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00\nTRACK 02 AUDIO\nINDEX 01 00:04:00',
  );
  tray.insert(await openCueFile(at("songs.cue")));
  // The first command hears of the change.
  await guest.try("sg_raw /dev/sr0 00 00 00 00 00 00");
  // READ TOC, format 0: audio tracks 1 and 2 at sectors 0 and 300, and the lead-out at 600 (MMC-3 §5.23).
  const toc = await guest.run("sg_raw -r 28 /dev/sr0 43 00 00 00 00 00 00 00 1c 00 2>&1");
  const bytes = [...toc.matchAll(/^ *[0-9a-f]{2} +((?:[0-9a-f]{2} +)+)/gm)].flatMap(([, row]) =>
    row.trim().split(/ +/),
  );
  expect(bytes.slice(0, 4)).toEqual(["00", "1a", "01", "02"]);
  expect(bytes.slice(8, 12).join("") + bytes.slice(16, 20).join("") + bytes.slice(24, 28).join("")).toBe(
    "00000000" + "0000012c" + "00000258",
  );
}

const SCRIPT = `expect "KIT: GRUB" 120
expect "login: " 400
send "root\\n"
expect "guest# "
send "echo differencing > /root/note; sync\\n"
expect "guest# "
send "poweroff\\n"
expect "System halted" 200
`;

guestTest("paravane boot: the same from a differencing VHD, which QEMU boots when it has been flattened", async () => {
  const source = await openFile(kit.disk, { format: "raw", readOnly: true });
  const base = await createFile(at("base.vhd"), { format: "vhd", size: source.size });
  await copyDisk(source, base);
  await source.close();
  await base.close();
  expect(await paravane(["img", "create", "-f", "vhd", "-b", "base.vhd", "-F", "vhd", at("child.vhd")])).toMatchObject({
    code: 0,
  });
  const before = readFileSync(at("base.vhd"));
  writeFileSync(at("script"), SCRIPT);
  const ended = await paravane(["boot", "--stats", "--script", at("script"), at("child.vhd")]);
  expect(ended).toMatchObject({ code: 0, stderr: expect.stringMatching(/read [\d.]+ MiB in \d+ requests/) });
  expect(readFileSync(at("base.vhd")).equals(before)).toBe(true);
  const raw = await toRaw(at("child.vhd"));
  await checkExt(raw, 1 << 20);
  const options = { format: "raw", bus: "ide", command: "cat /root/note" } as const;
  expect(await bootInQemu(raw, options)).toMatch(/\ndifferencing\r?\n/);
});

interface QemuOptions {
  format: "raw" | "qcow2";
  bus: "ide" | "virtio";
  /** What the root's shell is given before it is powered off. */
  command: string;
}

/**
 * QEMU's own PC with the disk: what it says on its serial line until it has halted. The kernel may say something behind any
 * prompt, so prompts are looked for from the one before on, not at the end of what came. By TCG, for KVM inside another machine
 * is slower by far: firmware and boot loader read by PIO.
 */
async function bootInQemu(path: string, { format, bus, command }: QemuOptions): Promise<string> {
  const options = ["-machine", "pc,accel=tcg", "-m", "256", "-display", "none", "-serial", "stdio", "-net", "none"];
  const drive = `file=${path},format=${format},if=${bus}`;
  const child = spawn("qemu-system-i386", [...options, "-drive", drive, "-no-reboot"]);
  const steps = [
    ["login: ", "root\n"],
    ["guest# ", `${command}; poweroff\n`],
    [/reboot: (System halted|Power down)/, null],
  ] as const;
  let output = "";
  let step = 0;
  let from = 0;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => child.kill("SIGKILL"), 200_000);
    child.stdout.on("data", (bytes: Buffer) => {
      output += bytes.toString("latin1");
      for (; step < steps.length; step++) {
        const [prompt, answer] = steps[step];
        const at = output.slice(from).search(prompt);
        if (at < 0) return;
        from += at + 1;
        if (answer) child.stdin.write(answer);
        else child.kill("SIGKILL");
      }
    });
    child.on("error", reject);
    child.on("close", () => {
      clearTimeout(timer);
      if (step === steps.length) resolve(output);
      else reject(new Error(`QEMU's guest did not get past step ${step}; its last words: ${output.slice(-1000)}`));
    });
  });
}

const makeDisk = () => createDisk(new MemoryStore(), { format: "qcow2", size: 64 << 20 });

guestTest(
  "the same root over virtio and PVSCSI, from firmware to login, with disks on both that are written and compared",
  async () => {
    execFileSync("qemu-img", ["convert", "-O", "qcow2", kit.disk, at("virtio.qcow2")]);
    const root = await openFile(at("virtio.qcow2"));
    const [second, third] = [await makeDisk(), await makeDisk()];
    const guest = new Guest({ virtio: [root, { block: second, identity: "second" }], pvscsi: [third] });
    await guest.login();
    expect(await guest.run("cat /sys/block/vdb/serial")).toBe("second");
    expect(await guest.run("cat /sys/block/sda/device/vendor; mount | grep -c '/dev/vda1 on / '")).toMatch(/\n1\n$/);
    for (const device of ["/dev/vdb", "/dev/sda"]) {
      await guest.run(`mkfs.ext4 -q ${device} && mount ${device} /mnt`);
      await guest.run(
        "cp /boot/initrd /mnt/one && cp /boot/vmlinuz /mnt/two && sync && echo 3 > /proc/sys/vm/drop_caches",
      );
      await guest.run(
        "cmp /boot/initrd /mnt/one && cmp /boot/vmlinuz /mnt/two && rm /mnt/one && fstrim /mnt; umount /mnt",
      );
    }
    await guest.run("cp /boot/initrd /root/copy && sync");
    expect(diskTrouble(await guest.run("dmesg"))).toEqual([]);
    await guest.powerOff();
    await guest.stop();
    for (const [disk, name] of [
      [second, "v.raw"],
      [third, "p.raw"],
    ] as const) {
      const file = await createFile(at(name), { format: "raw", size: disk.size });
      await copyDisk(disk, file);
      await file.close();
      await checkExt(at(name), 0);
    }
    await root.close();
    await run("qemu-img", ["check", "-q", at("virtio.qcow2")]);
    const command = "mount | grep -c '/dev/vda1 on / ' && cmp /boot/initrd /root/copy && echo sa''me";
    expect(await bootInQemu(at("virtio.qcow2"), { format: "qcow2", bus: "virtio", command })).toMatch(/\n1\r?\nsame/);
  },
);

const CD_SCRIPT = `expect "KIT: CD is El Torito" 400
expect "/ # "
eject
`;

guestTest("an El Torito CD boots from our drive and is mounted; locked, it is not given away", async () => {
  writeFileSync(at("cd-script"), CD_SCRIPT);
  const locked = await paravane(["boot", "--script", at("cd-script"), "--cdrom", kit.cd]);
  expect(locked).toMatchObject({ code: 1, stdout: expect.stringContaining("ISOLINUX") });
  expect(locked.stderr).toMatch(/cd-script:3: .*locked/);
});
