import { execFileSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";

const SECTOR = 512;
/** Where the one partition starts, as every tool has it: 1 MiB. In sectors; before it is room for the boot loader. */
const FIRST = 2048;
/** Where a master boot record has its partition table. */
const TABLE = 446;
const LINUX = 0x83;

/** Debian's folder of GRUB modules for BIOS machines (package grub-pc-bin). */
const GRUB = "/usr/lib/grub/i386-pc";

const LABEL = "paravane";
/** What these guests have no use for takes more than half the time of a boot. */
const SKIPPED = ["init_kprobe_trace", "load_system_certificate_list", "isapnp_init"];
export const KERNEL_OPTIONS = [
  "console=ttyS0 quiet tsc=reliable mitigations=off cryptomgr.notests=1",
  `initcall_blacklist=${SKIPPED.join()}`,
].join(" ");

/** A disk of `bytes` with GRUB in front of one ext4 partition made from `root`: sparse, at `path`. */
export function bootableDisk(path: string, root: string, bytes: number, work: string): void {
  const sectors = bytes / SECTOR - FIRST;
  const file = openSync(path, "w");
  ftruncateSync(file, bytes);
  closeSync(file);
  const options = ["-q", "-F", "-t", "ext4", "-L", LABEL, "-d", root, "-E", `offset=${FIRST * SECTOR},root_owner=0:0`];
  execFileSync("mke2fs", [...options, path, `${(sectors * SECTOR) / 1024}k`], { stdio: ["ignore", "pipe", "pipe"] });
  const disk = openSync(path, "r+");
  writeSync(disk, masterBootRecord(sectors), 0, SECTOR, 0);
  const core = bootCore(work);
  if (core.length > (FIRST - 1) * SECTOR) throw new Error("GRUB does not fit before the first partition");
  // boot.img looks for it there, and its own first sector for the rest right behind.
  writeSync(disk, core, 0, core.length, SECTOR);
  closeSync(disk);
}

function masterBootRecord(sectors: number): Uint8Array {
  const record = new Uint8Array(SECTOR);
  record.set(readFileSync(`${GRUB}/boot.img`).subarray(0, TABLE));
  const view = new DataView(record.buffer);
  // Active; heads and cylinders of addresses that do not fit.
  record.set([0x80, 0xfe, 0xff, 0xff, LINUX, 0xfe, 0xff, 0xff], TABLE);
  view.setUint32(TABLE + 8, FIRST, true);
  view.setUint32(TABLE + 12, sectors, true);
  view.setUint16(510, 0xaa55, true);
  return record;
}

function bootCore(work: string): Uint8Array {
  const config = join(work, "grub.cfg");
  const core = join(work, "core.img");
  const script = [
    "serial --unit=0 --speed=115200",
    "terminal_output serial console",
    "set root=(hd0,msdos1)",
    "echo KIT: GRUB",
    `linux /boot/vmlinuz root=LABEL=${LABEL} ${KERNEL_OPTIONS}`,
    "initrd /boot/initrd",
    "boot",
    "",
  ];
  writeFileSync(config, script.join("\n"));
  const modules = ["biosdisk", "part_msdos", "ext2", "linux", "serial", "terminal", "echo", "boot", "normal"];
  const options = ["-O", "i386-pc", "-d", GRUB, "-p", "(hd0,msdos1)/boot/grub", "-c", config, "-o", core];
  execFileSync("grub-mkimage", [...options, ...modules]);
  const bytes = readFileSync(core);
  for (const each of [config, core]) rmSync(each);
  return bytes;
}

/** An El Torito CD with ISOLINUX, the kernel and the initramfs, at `path`. */
export function bootableCd(path: string, kernel: string, initrd: Uint8Array, work: string): void {
  const tree = join(work, "cd");
  execFileSync("mkdir", ["-p", `${tree}/isolinux`]);
  writeFileSync(`${tree}/marker`, "El Torito\n");
  writeFileSync(`${tree}/isolinux/initrd`, initrd);
  writeFileSync(`${tree}/isolinux/vmlinuz`, readFileSync(kernel));
  for (const each of ["/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"])
    execFileSync("cp", [each, `${tree}/isolinux/`]);
  const config = [
    "SERIAL 0 115200",
    "DEFAULT linux",
    "LABEL linux",
    "  KERNEL vmlinuz",
    `  APPEND initrd=initrd cd ${KERNEL_OPTIONS}`,
    "",
  ];
  writeFileSync(`${tree}/isolinux/isolinux.cfg`, config.join("\n"));
  const boot = ["-b", "isolinux/isolinux.bin", "-c", "isolinux/boot.cat", "-no-emul-boot", "-boot-load-size", "4"];
  const options = ["-as", "mkisofs", "-quiet", "-R", "-J", "-V", "PARAVANE", ...boot, "-boot-info-table", "-o", path];
  execFileSync("xorriso", [...options, tree], { stdio: ["ignore", "pipe", "pipe"] });
  rmSync(tree, { recursive: true });
}
