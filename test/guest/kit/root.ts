import { cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const FILES: Record<string, string> = {
  "etc/passwd": "root::0:0:root:/root:/bin/sh\n",
  "etc/group": "root:x:0:\n",
  "etc/hostname": "paravane\n",
  "etc/profile": "export PS1='guest# '\n",
  "etc/ld.so.conf": "/lib/i386-linux-gnu\n/usr/lib/i386-linux-gnu\n",
  "etc/mtab": "",
  "etc/inittab": [
    "::sysinit:/etc/rc",
    "ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100",
    "::ctrlaltdel:/sbin/reboot",
    "::shutdown:/bin/umount -a -r",
    "",
  ].join("\n"),
  "etc/rc": [
    "#!/bin/sh",
    "mount -t proc proc /proc",
    "mount -t sysfs sys /sys",
    "mount -t tmpfs run /run",
    "mount -o remount,rw /",
    "hostname paravane",
    "dmesg -n 4",
    "echo KIT: root is up",
    "",
  ].join("\n"),
};

/** Documentation and translations are the larger part of most packages. */
const LEFT_OUT =
  /\/usr\/(share|include)\/|\/usr\/lib\/(i386-linux-gnu\/(gconv|audit)|systemd)\/|\/lib\/(systemd|udev)\//;

/** Lays the guest's root file system out in `root`, from unpacked packages. */
export function layRoot(
  root: string,
  packages: string,
  names: readonly string[],
  kernel: string,
  initrd: Uint8Array,
): void {
  const folders = [
    "bin",
    "sbin",
    "dev",
    "proc",
    "sys",
    "run",
    "tmp",
    "mnt",
    "root",
    "boot",
    "etc",
    "usr/bin",
    "usr/sbin",
  ];
  for (const folder of folders) mkdirSync(join(root, folder), { recursive: true });
  for (const name of names) {
    cpSync(join(packages, name), root, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (source) => !LEFT_OUT.test(`${source}/`),
    });
  }
  for (const [path, text] of Object.entries(FILES)) {
    writeFileSync(join(root, path), text, { mode: path === "etc/rc" ? 0o755 : 0o644 });
  }
  // The rest of busybox's commands are links that the guest's own shell never misses.
  for (const [at, commands] of Object.entries(BUSYBOX)) {
    for (const command of commands.split(" ")) {
      try {
        symlinkSync("/bin/busybox", join(root, at, command));
      } catch (thrown) {
        if ((thrown as NodeJS.ErrnoException).code !== "EEXIST") throw thrown;
      }
    }
  }
  cpSync(kernel, join(root, "boot/vmlinuz"));
  writeFileSync(join(root, "boot/initrd"), initrd);
}

const BUSYBOX = {
  bin: "sh ash cat chmod cp date dd df dmesg echo false grep hostname kill ln login ls mkdir mknod mount mv ps pwd rm rmdir sed sleep stty sync touch true umount uname usleep",
  sbin: "init getty halt poweroff reboot switch_root insmod lsmod swapoff",
  "usr/bin":
    "[ awk basename cmp cut diff du expr find free head hexdump md5sum printf seq sha256sum sort stat tail tee test time tr uniq wc which xargs yes tar gunzip gzip env id timeout od",
  "usr/sbin": "chroot fstrim partprobe",
};
