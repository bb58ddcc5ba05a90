import { describe, expect, test } from "vitest";
import { Op } from "../../../src/core/block.ts";
import { SegmentList } from "../../../src/core/segments.ts";
import { BlockStore } from "../../../src/host/block/block-store.ts";
import { readBytes, writeBytes } from "../../../src/host/block/bytes.ts";
import { encryptBlock, unlockBlock } from "../../../src/host/block/luks.ts";
import { createDisk, openDisk } from "../../../src/host/block/open.ts";
import { withFaults } from "../../../src/host/filter/fault.ts";
import { openFile } from "../../../src/node.ts";
import { KeptStore, VOLUME_KEY } from "../../support/disks.ts";
import { qemuImg, qemuIo, scratch } from "../../support/img.ts";
import { bytesOf, passphraseFile, qemuIoSecret } from "../../support/luks.ts";
import { peerTest } from "../../support/peers.ts";
import { contentOf, LateStore, randomFrom } from "../../support/stores.ts";

const MiB = 2 ** 20;
const passphrase = bytesOf("correct horse");
const at = scratch();
const pass = passphraseFile(at("pass"), "correct horse");

describe("a disk as a store", () => {
  test.each([
    ["512-byte sectors", false, {}],
    ["512-byte sectors, late", true, {}],
    ["4096-byte sectors, late", true, { format: "vhdx", logicalSectorSize: 4096 }],
  ])("any bytes are read, written and cleared: %s", async (_, late, options) => {
    const kept = new KeptStore();
    const size = 3 * MiB;
    const format = { format: "vhd", ...options };
    await (await createDisk(kept, { ...format, size })).close();
    const store = new BlockStore(await openDisk(late ? new LateStore(kept, 5) : kept, { format: format.format }));
    const model = new Uint8Array(size);
    const random = randomFrom(11);
    // Neighbours at the same time: what they share of a sector must not be lost.
    for (let turn = 0; turn < 40; turn++) {
      let from = Math.floor(random() * (size - 40_000));
      const works = Array.from({ length: 4 }, () => {
        const length = 1 + Math.floor(random() * 9000);
        const start = from;
        from += length;
        const kind = Math.floor(random() * 3);
        if (kind === 0) {
          model.fill(0, start, start + length);
          return store.discard(start, length);
        }
        const bytes = new Uint8Array(length + 10).fill(1 + Math.floor(random() * 255));
        model.set(bytes.subarray(0, length), start);
        const segments = new SegmentList();
        segments.push(0, Math.floor(length / 3));
        segments.push(10 + Math.floor(length / 3), length - Math.floor(length / 3));
        return store.writev(start, bytes, segments);
      });
      await Promise.all(works);
    }
    const bytes = new Uint8Array(size);
    await store.readv(0, bytes, SegmentList.of(0, size));
    expect(Buffer.compare(bytes, model)).toBe(0);
    await store.readv(1000, bytes, SegmentList.of(7, 777));
    expect(Buffer.compare(bytes.subarray(7, 784), model.subarray(1000, 1777))).toBe(0);
    await store.close();
  });

  test("it ends where the disk does, and says what the disk says", async () => {
    const disk = await createDisk(new KeptStore(), { format: "raw", size: 4096 });
    const store = new BlockStore(disk);
    const one = SegmentList.of(0, 1);
    const call = async (work: () => unknown) => {
      try {
        await work();
        return "done";
      } catch (thrown) {
        return (thrown as { code: string }).code;
      }
    };
    const byte = new Uint8Array(1);
    expect(await call(() => store.readv(4096, byte, one))).toBe("OUT_OF_RANGE");
    expect(await call(() => store.writev(4096, byte, one))).toBe("NO_SPACE");
    expect(await call(() => store.discard(4096, 1))).toBe("NO_SPACE");
    expect(await call(() => store.resize(8192))).toBe("UNSUPPORTED");
    expect(await call(() => store.resize(4096))).toBe("done");
    const faulty = new BlockStore(withFaults(disk, { cause: "media", ops: [Op.Write] }));
    expect(await call(() => faulty.writev(3, byte, one))).toBe("MEDIA");
  });
});

describe("LUKS on a disk", () => {
  test("what the disk held before reads as zeros where it is to", async () => {
    const disk = await createDisk(new KeptStore(), { format: "raw", size: 4 * MiB });
    await writeBytes(disk, 0, new Uint8Array(4 * MiB).fill(0xee));
    const inner = await encryptBlock(disk, { ...VOLUME_KEY, iterations: 1000, preallocation: "full" });
    expect((await readBytes(inner, 0, inner.size)).every((byte) => byte === 0)).toBe(true);
    await inner.close();
  });

  test("wrong and missing passphrases, and a disk that is too small", async () => {
    const kept = new KeptStore();
    const disk = await createDisk(kept, { format: "qcow2", size: 8 * MiB });
    const inner = await encryptBlock(disk, { passphrase, iterations: 1000 });
    await writeBytes(inner, 0, new Uint8Array(512).fill(7));
    await inner.close();
    const again = await unlockBlock(await openDisk(kept), { passphrase });
    expect((await readBytes(again, 0, 512))[0]).toBe(7);
    await expect(again.resize(512)).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await again.close();
    for (const given of [{}, { passphrase: bytesOf("wrong") }]) {
      const opened = await openDisk(kept);
      await expect(unlockBlock(opened, given)).rejects.toMatchObject({ code: "DENIED" });
      // It is left open.
      expect((await readBytes(opened, 0, 4)).slice()).toEqual(bytesOf("LUKS"));
      await opened.close();
    }
    const small = await createDisk(new KeptStore(), { format: "raw", size: 65536 });
    await expect(encryptBlock(small, { ...VOLUME_KEY, iterations: 1000 })).rejects.toMatchObject({
      code: "INVALID",
      message: expect.stringContaining("too small"),
    });
  });

  for (const [format, qemu] of [
    ["vhd", "vpc"],
    ["vhdx", "vhdx"],
    ["qcow2", "qcow2"],
    ["vdi", "vdi"],
  ]) {
    peerTest(
      "qemu-io",
      "qemu-utils",
      `in a ${format}: QEMU reads what we write there, and the other way round`,
      async () => {
        const path = at(`disk.${format}`);
        qemuImg("create", "-q", "-f", qemu, path, "16M");
        const target = `driver=luks,key-secret=sec0,file.driver=${qemu},file.file.filename=${path}`;
        const disk = await encryptBlock(await openFile(path, { format }), { passphrase, iterations: 1000 });
        await writeBytes(disk, MiB + 512, new Uint8Array(65536).fill(0x5a));
        await disk.close();
        expect(qemuIoSecret(pass, target, `read -P 0x5a ${MiB + 512} 64k`, "write -P 0x77 3M 8k")).not.toContain(
          "fail",
        );
        const again = await unlockBlock(await openFile(path, { format, readOnly: true }), {
          passphrase,
          readOnly: true,
        });
        expect((await readBytes(again, 3 * MiB, 8192)).every((byte) => byte === 0x77)).toBe(true);
        await again.close();
        expect(qemuIo(qemu, path, "read -v 0 4")).toContain("4c 55 4b 53");
      },
    );
  }
});

// cryptsetup and QEMU make such; LUKS On-Disk Format Specification, figure 1: where the names stand.
test.each([
  [8, "serpent", "the cipher serpent-xts-plain64 is not known"],
  [8, "twofish", "the cipher twofish-xts-plain64 is not known"],
  [40, "ctr-plain64", "the cipher aes-ctr-plain64 is not known"],
  [40, "cbc-essiv:md5", "the cipher aes-cbc-essiv:md5 is not known"],
  [72, "sha384", 'the hash "sha384" is not known'],
  [72, "whirlpool", 'the hash "whirlpool" is not known'],
])("a header that says at byte %i %s is refused by name", async (at, name, said) => {
  const store = new KeptStore();
  await (await createDisk(store, { format: "luks", size: 65536, passphrase, iterations: 1000 })).close();
  const bytes = contentOf(store);
  bytes.fill(0, at, at + 32).set(bytesOf(name), at);
  await expect(openDisk(new KeptStore(bytes), { passphrase })).rejects.toMatchObject({
    code: "UNSUPPORTED",
    message: said,
  });
});
