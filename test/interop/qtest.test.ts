// The protocol that the differential runs speak: what ends with its user, and what it does with a line of any length.
import { readdirSync, readFileSync } from "node:fs";
import { expect } from "vitest";
import { peerTest } from "../support/peers.ts";
import { Qtest } from "../support/qtest.ts";

/** Processes whose command line names that folder. */
function processesOf(folder: string): string[] {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(folder);
    } catch {
      // It has ended meanwhile.
      return false;
    }
  });
}

peerTest("qemu-system-x86_64", "qemu-system-x86", "QEMU ends when it is closed", async () => {
  const qemu = new Qtest([], 60);
  expect(processesOf(qemu.folder).length).toBeGreaterThan(0);
  qemu.close();
  for (let i = 0; i < 100 && processesOf(qemu.folder).length > 0; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(processesOf(qemu.folder)).toEqual([]);
});

peerTest("qemu-system-x86_64", "qemu-system-x86", "a command longer than a batch is a batch of its own", () => {
  const qemu = new Qtest([], 60);
  try {
    const bytes = Buffer.from(Uint8Array.from({ length: 100_000 }, (_, i) => i % 251));
    qemu.send(`b64write 0x100000 0x${bytes.length.toString(16)} ${bytes.toString("base64")}`);
    const answers: string[] = [];
    qemu.send(`b64read 0x100000 0x${bytes.length.toString(16)}`);
    qemu.flush((answer) => answers.push(answer));
    expect(Buffer.compare(Buffer.from(answers[1], "base64"), bytes)).toBe(0);
  } finally {
    qemu.close();
  }
});
