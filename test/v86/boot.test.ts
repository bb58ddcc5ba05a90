import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { openFile } from "../../src/node.ts";
import { type GuestKit, guestKit, KIT_TOOLS } from "../guest/kit/kit.ts";
import { Guest, guestTest } from "../support/guest.ts";
import { found } from "../support/peers.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-guest-"));
let kit: GuestKit;
beforeAll(() => {
  if (KIT_TOOLS.every(([tool]) => found(tool))) kit = guestKit();
}, 300_000);
afterAll(() => rmSync(folder, { recursive: true }));

guestTest("firmware, boot loader, kernel, ext4 root and login from a qcow2 on our IDE controller", async () => {
  const path = join(folder, "root.qcow2");
  execFileSync("qemu-img", ["convert", "-O", "qcow2", kit.disk, path]);
  const disk = await openFile(path);
  const guest = new Guest({ ide: [[disk]] });
  await guest.login();
  const log = await guest.run("dmesg");
  expect(await guest.run("cat /sys/class/ata_device/dev1.0/xfer_mode")).toBe("XFER_UDMA_2\n");
  expect(log).not.toMatch(/exception|soft reset|failed command|I\/O error/);
  await guest.powerOff();
  await guest.stop();
  await disk.close();
  execFileSync("qemu-img", ["check", "-q", path]);
  execFileSync("qemu-img", ["convert", "-O", "raw", path, join(folder, "root.raw")]);
  execFileSync("e2fsck", ["-fn", `${join(folder, "root.raw")}?offset=1048576`], { stdio: "pipe" });
});
