// Images that other people's programs have made: what a guest reads of them is what is in their files.
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { openDisk } from "../../src/host/block/open.ts";
import { cdFromBlock } from "../../src/host/media/image.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { be, CdBench, cdb } from "../support/cd.ts";
import { peerTest } from "../support/peers.ts";

const CONTENT = Buffer.from(Array.from({ length: 300_001 }, (_, i) => (i * 7 + (i >> 11)) & 0xff));

/** Finds a file of the root folder of an ISO 9660 volume (ECMA-119 §8.4, §9.1) through the drive: its bytes. */
function readFile(ide: CdBench, name: string, by: "pio" | "dma"): Uint8Array {
  const read = (lba: number, count: number) => {
    const packet = cdb(PacketOp.Read10, 0, ...be(lba, 4), 0, ...be(count, 2));
    return by === "pio" ? ide.pio(packet, 0x8000).bytes : ide.dma(packet, count * 2048);
  };
  const volume = new DataView(read(16, 1).slice().buffer);
  expect(String.fromCharCode(...new Uint8Array(volume.buffer, 1, 5))).toBe("CD001");
  const root = read(volume.getUint32(158, true), volume.getUint32(166, true) / 2048);
  const view = new DataView(root.slice().buffer);
  for (let at = 0; at < root.length && root[at] > 0; at += root[at]) {
    const title = String.fromCharCode(...root.subarray(at + 33, at + 33 + root[at + 32]));
    if (!title.startsWith(name)) continue;
    const length = view.getUint32(at + 10, true);
    return read(view.getUint32(at + 2, true), Math.ceil(length / 2048)).subarray(0, length);
  }
  throw new Error(`${name} is not in the volume`);
}

async function check(make: (folder: string, image: string) => void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "paravane-iso-"));
  try {
    writeFileSync(join(folder, "CONTENT.BIN"), CONTENT);
    const image = join(folder, "image.iso");
    make(folder, image);
    const bytes = readFileSync(image);
    const disk = await openDisk(new FileStore(image, { readOnly: true }), { format: "raw", readOnly: true });
    const ide = new CdBench([undefined, [null, { cd: cdFromBlock(disk) }]], { channel: 1, memory: 8 << 20 });
    ide.write(6, 0xb0);
    const capacity = ide.pio(cdb(PacketOp.ReadCapacity)).bytes;
    expect(new DataView(capacity.buffer).getUint32(0)).toBe(Math.ceil(bytes.length / 2048) - 1);
    for (const by of ["pio", "dma"] as const) expect(CONTENT.equals(readFile(ide, "CONTENT.BIN", by))).toBe(true);
    // The last sector, and the boot record of El Torito, where there is one.
    const last = Math.floor(bytes.length / 2048) - 1;
    const end = ide.pio(cdb(PacketOp.Read10, 0, ...be(last, 4), 0, 0, 1)).bytes;
    expect(Buffer.from(end).equals(bytes.subarray(last * 2048, (last + 1) * 2048))).toBe(true);
    const boot = ide.pio(cdb(PacketOp.Read12, 0, ...be(17, 4), ...be(1, 4))).bytes;
    expect(Buffer.from(boot).equals(bytes.subarray(17 * 2048, 18 * 2048))).toBe(true);
    expect(String.fromCharCode(...boot.subarray(7, 30))).toBe("EL TORITO SPECIFICATION");
    await disk.close();
  } finally {
    rmSync(folder, { recursive: true });
  }
}

peerTest("genisoimage", "genisoimage", "an ISO 9660 image of genisoimage, bootable", () =>
  check((folder, image) => {
    const boot = ["-b", "CONTENT.BIN", "-no-emul-boot", "-boot-load-size", "4"];
    execFileSync("genisoimage", ["-quiet", "-o", image, ...boot, "-m", "image.iso", folder], { stdio: "pipe" });
  }),
);

peerTest("xorriso", "xorriso", "an ISO 9660 image of xorriso, bootable", () =>
  check((folder, image) => {
    const boot = ["-b", "CONTENT.BIN", "-no-emul-boot", "-boot-load-size", "4"];
    execFileSync("xorriso", ["-as", "mkisofs", "-quiet", "-o", image, ...boot, "-m", "image.iso", folder], {
      stdio: "pipe",
    });
  }),
);
