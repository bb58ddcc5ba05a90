import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";

/** A passphrase in a file, as every program takes it. */
export function passphraseFile(path: string, passphrase: string): string {
  writeFileSync(path, passphrase, { mode: 0o600 });
  return path;
}

export const bytesOf = (text: string) => new TextEncoder().encode(text);

/** `cryptsetup …`; it has to succeed. */
export const cryptsetup = (...args: string[]) => execFileSync("cryptsetup", ["-q", ...args], { encoding: "utf8" });

/** Does the passphrase in that file open the image, as cryptsetup sees it? */
export function opensWith(image: string, file: string, ...more: string[]): boolean {
  const args = ["open", "--test-passphrase", "--key-file", file, ...more, image];
  return spawnSync("cryptsetup", args, { stdio: "ignore" }).status === 0;
}

/** `qemu-io` on an encrypted image: `target` is the options of --image-opts beside the secret. */
export function qemuIoSecret(file: string, target: string, ...commands: string[]): string {
  const args = ["--object", `secret,id=sec0,file=${file}`, "--image-opts", target];
  return execFileSync("qemu-io", [...commands.flatMap((command) => ["-c", command]), ...args], { encoding: "utf8" });
}

/** `qemu-img create` with a secret. It measures its own speed by a clock too coarse for that, and gives up now and then. What it printed. */
export function createByQemu(file: string, format: string, options: string, ...rest: string[]): string {
  const args = ["create", "--object", `secret,id=sec0,file=${file}`, "-f", format, "-o", options, ...rest];
  for (let tries = 0; tries < 30; tries++) {
    const { status, stdout, stderr } = spawnSync("qemu-img", args, { encoding: "utf8" });
    if (status === 0) return stdout;
    if (!stderr.includes("accurate CPU usage")) throw new Error(`qemu-img ${args.join(" ")}: ${stderr}`);
  }
  throw new Error("qemu-img cannot measure how fast it is");
}
