import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { gzipSync } from "node:zlib";
import { type CpioEntry, cpio } from "./cpio.ts";
import { OPTIONAL } from "./modules.ts";

/*
 * /init understands, on the kernel's command line,
 *     root=LABEL=…|/dev/…   wait for it, mount it as ext4 and go on there
 *     cd                    wait for /dev/sr0, mount it on /mnt, then a shell
 * and without either gives a shell on the serial line. kit.skip=virtio_blk,… names what is not to be loaded, kit.load=null_blk what
 * is to be, besides; kit.libata=dma=0 an option of that module.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /mnt /root /tmp
read -r line < /proc/cmdline
skip= load= root= cd= libata=
for word in $line; do
  case $word in
    root=*) root=\${word#root=} ;;
    cd) cd=1 ;;
    kit.libata=*) libata=\${word#kit.libata=} ;;
    kit.load=*) load=,\${word#kit.load=}, ;;
    kit.skip=*) skip=,\${word#kit.skip=}, ;;
  esac
done
while read -r module; do
  case $skip in *,$module,*) continue ;; esac
  case "${OPTIONAL.join(" ")}" in *$module*) case $load in *,$module,*) ;; *) continue ;; esac ;; esac
  options=; [ $module = libata ] && options=$libata
  insmod /modules/$module.ko $options || echo "KIT: no $module"
done < /modules/order
if [ -n "$root" ]; then
  tries=0 device=
  while [ $tries -lt 300 ]; do
    case $root in
      LABEL=*) device=$(findfs $root 2>/dev/null) ;;
      *) [ -b $root ] && device=$root ;;
    esac
    [ -n "$device" ] && break
    tries=$((tries + 1)); usleep 100000
  done
  if [ -n "$device" ] && mount -t ext4 $device /mnt; then
    echo "KIT: root is $device"
    umount /proc /sys
    mount --move /dev /mnt/dev
    exec switch_root /mnt /sbin/init
  fi
  echo "KIT: no root on $root"
fi
if [ -n "$cd" ]; then
  tries=0
  while [ ! -b /dev/sr0 ] && [ $tries -lt 300 ]; do tries=$((tries + 1)); usleep 100000; done
  mount -t iso9660 -o ro /dev/sr0 /mnt && echo "KIT: CD is $(cat /mnt/marker)"
fi
echo "KIT: shell"
exec setsid cttyhack sh
`;

const FOLDER = 0o040755;
const PROGRAM = 0o100755;
const CHARACTER = 0o020600;

/** The gzipped initramfs. */
export function initramfs(busybox: string, modules: readonly string[]): Uint8Array {
  const text = (content: string) => new TextEncoder().encode(content);
  const folders = ["bin", "dev", "mnt", "modules", "proc", "sys"];
  const names = modules.map((path) => basename(path, ".ko"));
  const entries: CpioEntry[] = [
    ...folders.map((name) => ({ name, mode: FOLDER })),
    { name: "dev/console", mode: CHARACTER, device: [5, 1] },
    { name: "bin/busybox", mode: PROGRAM, data: readFileSync(busybox) },
    { name: "init", mode: PROGRAM, data: text(INIT) },
    { name: "modules/order", mode: 0o100644, data: text(`${names.join("\n")}\n`) },
    ...modules.map((path, i) => ({ name: `modules/${names[i]}.ko`, mode: 0o100644, data: stripped(path) })),
  ];
  return gzipSync(cpio(entries), { level: 6 });
}

/** The module without its signature, which nobody checks here. */
function stripped(path: string): Uint8Array {
  return readFileSync(path);
}
