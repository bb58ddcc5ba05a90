import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, truncateSync } from "node:fs";
import { describe, expect } from "vitest";
import { flush, readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { openDisk } from "../../src/host/block/open.ts";
import { checkImage } from "../../src/host/image/check.ts";
import { addKey, eraseKey } from "../../src/host/image/keys.ts";
import { applySnapshot, createSnapshot } from "../../src/host/image/snapshot.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { createFile, openFile } from "../../src/node.ts";
import { qemuImg, scratch } from "../support/img.ts";
import { bytesOf, createByQemu, passphraseFile, qemuIoSecret } from "../support/luks.ts";
import { batchOf, Model, type Step } from "../support/model.ts";
import { peerTest } from "../support/peers.ts";
import { randomFrom } from "../support/stores.ts";

const MiB = 2 ** 20;
const at = scratch();
const pass = passphraseFile(at("pass"), "correct horse");
const other = passphraseFile(at("other"), "battery staple");
const passphrase = bytesOf("correct horse");
const newPassphrase = bytesOf("battery staple");
const LUKS = { encryption: { iterations: 1000 }, passphrase };

const opts = (path: string) => `driver=qcow2,encrypt.key-secret=sec0,file.filename=${path}`;

/** The disk as QEMU decrypts it. */
function byQemu(path: string, secret = pass, options = opts(path)): Buffer {
  const raw = `${path}.raw`;
  execFileSync("qemu-img", ["convert", "--object", `secret,id=sec0,file=${secret}`, "--image-opts", options, raw]);
  return readFileSync(raw);
}

function checkByQemu(path: string): void {
  qemuImg("check", "-q", "--object", `secret,id=sec0,file=${pass}`, "--image-opts", opts(path));
}

/** Random requests that meet each other, with a snapshot and a larger disk between; what the disk must then hold. */
async function program(path: string, seed: number, grows = true): Promise<Uint8Array> {
  const random = randomFrom(seed);
  const disk = await openFile(path, { passphrase });
  const model = new Model();
  const kinds: Step["kind"][] = ["write", "write", "write", "read", "zero", "flush"];
  const some = (count: number): Step[] =>
    Array.from({ length: count }, () => {
      const sector = Math.floor(random() * (disk.size / 512));
      const length = 1 + Math.floor(random() * (random() < 0.3 ? 700 : 12));
      return {
        kind: kinds[Math.floor(random() * kinds.length)],
        sector,
        count: Math.min(length, disk.size / 512 - sector),
      };
    });
  const round = async () => {
    const { batch, check } = batchOf(model, some(30));
    await disk.submit(batch);
    expect(check()).toBeNull();
  };
  await round();
  await createSnapshot(disk, { name: "one" });
  const then = (await readBytes(disk, 0, disk.size)).slice();
  await round();
  if (grows) await disk.resize(disk.size + 3 * MiB + 512);
  await round();
  await flush(disk);
  await createSnapshot(disk, { name: "two" });
  const now = (await readBytes(disk, 0, disk.size)).slice();
  await applySnapshot(disk, "one");
  expect(Buffer.compare(await readBytes(disk, 0, disk.size), then)).toBe(0);
  await applySnapshot(disk, "two");
  expect(Buffer.compare(await readBytes(disk, 0, disk.size), now)).toBe(0);
  await round();
  const end = (await readBytes(disk, 0, disk.size)).slice();
  await disk.close();
  return end;
}

describe.each([
  { name: "usual", options: {} },
  { name: "small clusters", options: { clusterSize: 4096 } },
  { name: "subclusters", options: { extendedL2: true } },
  { name: "version 2", options: { compat: "0.10" } },
  { name: "preallocated", options: { preallocation: "metadata" } },
])("qcow2 with LUKS, $name", ({ name, options }) => {
  peerTest("qemu-img", "qemu-utils", "a program of ours, as QEMU sees it, and QEMU's writes as we do", async () => {
    const path = at(`${name.replace(" ", "-")}.qcow2`);
    await (await createFile(path, { format: "qcow2", size: 5 * MiB, ...LUKS, ...options })).close();
    const content = await program(path, name.length, name !== "version 2");
    expect(Buffer.compare(byQemu(path), content)).toBe(0);
    checkByQemu(path);
    expect(await checkImage(new FileStore(path, { readOnly: true }))).toMatchObject({ leaks: 0, corruptions: 0 });
    qemuIoSecret(pass, opts(path), "write -P 0x41 1M 100k", "write -z 2M 256k", "write -P 0x42 4M 512");
    content.fill(0x41, MiB, MiB + 102400);
    content.fill(0, 2 * MiB, 2 * MiB + 262144);
    content.fill(0x42, 4 * MiB, 4 * MiB + 512);
    const disk = await openFile(path, { passphrase, readOnly: true });
    expect(Buffer.compare(await readBytes(disk, 0, disk.size), content)).toBe(0);
    await disk.close();
    await expect(openFile(path, { passphrase: newPassphrase })).rejects.toThrow(/wrong passphrase/);
    await expect(openFile(path)).rejects.toThrow(/no passphrase was given/);
  });
});

peerTest("qemu-img", "qemu-utils", "what QEMU makes: we write, describe, add and erase keys; QEMU amends", async () => {
  const path = at("theirs.qcow2");
  createByQemu(pass, "qcow2", "encrypt.format=luks,encrypt.key-secret=sec0,encrypt.iter-time=10", path, "5M");
  const content = await program(path, 99);
  expect(Buffer.compare(byQemu(path), content)).toBe(0);
  checkByQemu(path);
  const disk = await openFile(path, { passphrase });
  const theirs = JSON.parse(qemuImg("info", "--output", "json", path))["format-specific"].data;
  const { data } = disk.describe().formatSpecific as { data: { encrypt: object } };
  const { "detached-header": _, ...encrypt } = theirs.encrypt;
  expect(data.encrypt).toMatchObject(encrypt);
  expect(await addKey(disk, { passphrase, newPassphrase, iterations: 1000 })).toBe(1);
  expect(await eraseKey(disk, { passphrase })).toEqual([0]);
  await disk.close();
  expect(Buffer.compare(byQemu(path, other), content)).toBe(0);
  const secrets = ["--object", `secret,id=sec0,file=${other}`, "--object", `secret,id=sec1,file=${pass}`];
  const change = "encrypt.state=active,encrypt.new-secret=sec1,encrypt.iter-time=10";
  qemuImg("amend", ...secrets, "-o", change, "--image-opts", opts(path));
  const again = await openFile(path, { passphrase });
  expect(Buffer.compare(await readBytes(again, 0, again.size), content)).toBe(0);
  await again.close();
});

peerTest("qemu-img", "qemu-utils", "an encrypted image over an encrypted parent, and over a plain one", async () => {
  const base = at("base.qcow2");
  const parent = await createFile(base, { format: "qcow2", size: 2 * MiB, ...LUKS });
  await writeBytes(parent, 0, new Uint8Array(2 * MiB).fill(0x11));
  await parent.close();
  const path = at("child.qcow2");
  const child = await createFile(path, {
    format: "qcow2",
    size: 2 * MiB,
    parent: { path: "base.qcow2", format: "qcow2" },
    backing: await openFile(base, { passphrase, readOnly: true }),
    ...LUKS,
  }).catch((error: unknown) => error);
  expect(child).not.toBeInstanceOf(Error);
  await (child as { close(): Promise<void> }).close();
  const disk = await openFile(path, { passphrase });
  await writeBytes(disk, MiB + 512, new Uint8Array(1024).fill(0x22));
  await disk.close();
  const expected = new Uint8Array(2 * MiB).fill(0x11).fill(0x22, MiB + 512, MiB + 1536);
  const options = `${opts(path)},backing.driver=qcow2,backing.encrypt.key-secret=sec0,backing.file.filename=${base}`;
  expect(Buffer.compare(byQemu(path, pass, options), expected)).toBe(0);
});

describe.each(["1.1", "0.10"])("the old AES encryption, compat %s", (compat) => {
  peerTest("qemu-img", "qemu-utils", "is read as QEMU reads it, and never written", async () => {
    const path = at(`aes-${compat}.qcow2`);
    const raw = at(`aes-${compat}.raw`);
    const content = Buffer.alloc(3 * MiB, 0).map((_, i) => (i >> 16 === 5 ? 0 : (i * 7) >> 4));
    const { writeFileSync } = await import("node:fs");
    writeFileSync(raw, content);
    const secret = ["--object", `secret,id=sec0,file=${pass}`];
    const how = `encrypt.format=aes,encrypt.key-secret=sec0,compat=${compat}`;
    qemuImg("convert", ...secret, "-f", "raw", "-O", "qcow2", "-o", how, raw, path);
    const disk = await openFile(path, { passphrase, readOnly: true });
    expect(Buffer.compare(await readBytes(disk, 0, disk.size), content)).toBe(0);
    expect(Buffer.compare(await readBytes(disk, 66048, 1024), content.subarray(66048, 67072))).toBe(0);
    expect((await disk.places(0, 65536))[0]).toEqual({ kind: "packed", depth: 0, length: 65536 });
    await disk.close();
    await expect(openFile(path, { passphrase })).rejects.toMatchObject({ code: "UNSUPPORTED" });
    await expect(openFile(path, { readOnly: true })).rejects.toMatchObject({ code: "DENIED" });
  });
});

peerTest("qemu-img", "qemu-utils", "opened locked, all but the data is there", async () => {
  const path = at("locked.qcow2");
  await (await createFile(path, { format: "qcow2", size: MiB, ...LUKS })).close();
  const whole = await openFile(path, { passphrase });
  await writeBytes(whole, 0, new Uint8Array(512).fill(1));
  await whole.close();
  const disk = await openDisk(new FileStore(path, { readOnly: true }), { locked: true });
  expect(disk.describe()).toMatchObject({ encrypted: true });
  await expect(readBytes(disk, 0, 512)).rejects.toMatchObject({ code: "DENIED" });
  await disk.close();
  truncateSync(path, 2 * MiB);
  expect(existsSync(path)).toBe(true);
  await expect(openFile(path, { passphrase })).rejects.toMatchObject({ code: "CORRUPT" });
});
