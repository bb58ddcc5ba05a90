import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Of Debian's i386: a kernel, a shell, and what looks at disks from inside; with the libraries that those want. */
export const PACKAGES = [
  "busybox-static",
  ...["e2fsprogs", "hdparm", "sg3-utils", "smartmontools", "eject"],
  ...["libc6", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1", "libss2", "libsgutils2-1.46-2", "libmount1"],
  ...["libstdc++6", "libgcc-s1", "libcap-ng0", "libselinux1", "libpcre2-8-0", "libsystemd0", "libcap2", "libgcrypt20"],
  ...["libgpg-error0", "liblz4-1", "liblzma5", "libzstd1"],
];

/**
 * Options that give apt an architecture and a state of its own, so that neither the system's settings nor root are needed.
 */
function own(folder: string): string[] {
  for (const each of ["lists/partial", "cache/archives/partial"]) mkdirSync(join(folder, each), { recursive: true });
  const options = {
    "APT::Architecture": "i386",
    "APT::Architectures::": "i386",
    "Dir::State::lists": join(folder, "lists"),
    "Dir::Cache": join(folder, "cache"),
    "Acquire::Languages": "none",
    "APT::Sandbox::User": "",
  };
  return Object.entries(options).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
}

/** Fetches the packages and unpacks each into a folder of its name below `folder`; their versions by name. */
export function fetchPackages(folder: string): Record<string, string> {
  const state = join(folder, "apt");
  const options = own(state);
  const apt = (command: string, args: string[], cwd: string) =>
    execFileSync(command, [...options, ...args], { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  try {
    apt("apt-get", ["-qq", "update"], folder);
  } catch {
    // One index of several that a mirror is just renewing is no matter; what is missing then, the download says.
  }
  const [, kernel] = /Depends: (linux-image-\S+)/.exec(apt("apt-cache", ["depends", "linux-image-686"], folder)) ?? [];
  if (!kernel) throw new Error("linux-image-686 depends on no kernel");
  const debs = join(folder, "debs");
  for (const each of [debs, join(folder, "packages")]) mkdirSync(each, { recursive: true });
  apt("apt-get", ["-qq", "download", kernel, ...PACKAGES], debs);
  const versions: Record<string, string> = {};
  for (const file of readdirSync(debs).filter((name) => name.endsWith(".deb"))) {
    const [name, version] = file.split("_");
    versions[name] = decodeURIComponent(version);
    const into = join(folder, "packages", name.startsWith("linux-image") ? "linux-image" : name);
    if (!existsSync(into)) {
      execFileSync("dpkg", ["-x", join(debs, file), `${into}.partial`]);
      renameSync(`${into}.partial`, into);
    }
  }
  rmSync(state, { recursive: true, force: true });
  rmSync(debs, { recursive: true, force: true });
  return versions;
}
