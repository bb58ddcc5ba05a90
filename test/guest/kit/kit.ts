import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { bootableCd, bootableDisk } from "./disk.ts";
import { initramfs } from "./initramfs.ts";
import { modulesOf } from "./modules.ts";
import { fetchPackages, PACKAGES } from "./packages.ts";
import { layRoot } from "./root.ts";

/** What the suites boot: paths. None of it may be written to. */
export interface GuestKit {
  kernel: string;
  initrd: string;
  /** Raw: GRUB, and an ext4 root by the label `paravane` with a login on the serial line. */
  disk: string;
  /** An El Torito image that ends in a shell on the serial line. */
  cd: string;
  /** By package. */
  versions: Record<string, string>;
}

/** What has to be installed for the kit to be made. */
export const KIT_TOOLS = [
  ["apt-get", "apt"],
  ["mke2fs", "e2fsprogs"],
  ["grub-mkimage", "grub-common"],
  ["/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin"],
  ["/usr/lib/ISOLINUX/isolinux.bin", "isolinux"],
  ["/usr/lib/syslinux/modules/bios/ldlinux.c32", "syslinux-common"],
  ["xorriso", "xorriso"],
  ["/usr/share/seabios/bios.bin", "seabios"],
] as const;

const DISK_BYTES = 768 << 20;

/** Fetched again after that many milliseconds, in case that Debian has a newer kernel. */
const STALE = 14 * 86_400_000;

const here = new URL(".", import.meta.url);

/** Outside the repository: nothing of Debian's is ever committed. */
function cache(): string {
  const home =
    process.env.PARAVANE_GUEST_KIT ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "paravane-guest");
  const hash = createHash("sha256");
  for (const name of readdirSync(here).sort()) hash.update(readFileSync(new URL(name, here)));
  return join(home, hash.digest("hex").slice(0, 12));
}

/** The kit, made if there is none: half a minute and 60 MB from Debian's mirror the first time. */
export function guestKit(): GuestKit {
  const folder = cache();
  const made = join(folder, "kit.json");
  if (existsSync(made) && Date.now() - statSync(made).mtimeMs < STALE) return JSON.parse(readFileSync(made, "utf8"));
  // Made under another name, so that two test files that need it at once do no harm.
  const partial = `${folder}.${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  const versions = fetchPackages(partial);
  const packages = join(partial, "packages");
  const boot = join(packages, "linux-image/boot");
  const kernel = join(boot, readdirSync(boot).find((name) => name.startsWith("vmlinuz"))!);
  const initrd = initramfs(
    join(packages, "busybox-static/bin/busybox"),
    modulesOf(join(packages, "linux-image/lib/modules")),
  );
  const root = join(partial, "root");
  layRoot(root, packages, PACKAGES, kernel, initrd);
  bootableDisk(join(partial, "disk.raw"), root, DISK_BYTES, partial);
  bootableCd(join(partial, "cd.iso"), kernel, initrd, partial);
  renameSync(kernel, join(partial, "vmlinuz"));
  writeFileSync(join(partial, "initrd"), initrd);
  for (const each of [root, packages]) rmSync(each, { recursive: true });
  const at = (name: string) => join(folder, name);
  const kit: GuestKit = {
    kernel: at("vmlinuz"),
    initrd: at("initrd"),
    disk: at("disk.raw"),
    cd: at("cd.iso"),
    versions,
  };
  writeFileSync(join(partial, "kit.json"), JSON.stringify(kit, null, 2));
  rmSync(folder, { recursive: true, force: true });
  try {
    renameSync(partial, folder);
  } catch (thrown) {
    // Another process was faster.
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(made)) throw thrown;
  }
  return kit;
}
