import { createDecipheriv } from "node:crypto";
import { copyFileSync, readFileSync, statSync, truncateSync } from "node:fs";
import { describe, expect } from "vitest";
import { flush, readBytes, writeBytes } from "../../src/host/block/bytes.ts";
import { openDisk } from "../../src/host/block/open.ts";
import { addKey, eraseKey, listKeys } from "../../src/host/image/keys.ts";
import { FileStore } from "../../src/host/store/file.ts";
import { createFile } from "../../src/node.ts";
import { qemuImg, scratch } from "../support/img.ts";
import { bytesOf, createByQemu, cryptsetup, opensWith, passphraseFile, qemuIoSecret } from "../support/luks.ts";
import { peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const at = scratch();
const pass = passphraseFile(at("pass"), "correct horse");
const other = passphraseFile(at("other"), "battery staple");
const passphrase = bytesOf("correct horse");
const newPassphrase = bytesOf("battery staple");

const open = (path: string, readOnly = false, given = passphrase) =>
  openDisk(new FileStore(path, { readOnly }), { format: "luks", passphrase: given });
const byQemu = (path: string, secret = "key-secret=sec0") => `driver=luks,${secret},file.filename=${path}`;

/** LUKS1 by every cipher, key length and hash that QEMU has too. */
const CASES = [
  { cipher: "aes-xts-plain64", keySize: 512, hash: "sha256", qemu: "cipher-alg=aes-256" },
  { cipher: "aes-xts-plain64", keySize: 256, hash: "sha1", qemu: "cipher-alg=aes-128,hash-alg=sha1" },
  { cipher: "aes-xts-plain", keySize: 512, hash: "sha512", qemu: "ivgen-alg=plain,hash-alg=sha512" },
  {
    cipher: "aes-cbc-essiv:sha256",
    keySize: 256,
    hash: "ripemd160",
    qemu: "cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=ripemd160",
  },
  { cipher: "aes-cbc-plain64", keySize: 128, hash: "sha256", qemu: "cipher-alg=aes-128,cipher-mode=cbc" },
  { cipher: "aes-cbc-plain", keySize: 256, hash: "sha256", qemu: "cipher-mode=cbc,ivgen-alg=plain" },
] as const;

describe.each(CASES)("LUKS1, $cipher, $keySize bits, $hash", ({ qemu, ...options }) => {
  const name = `${options.cipher.replace(":", "-")}-${options.keySize}`;

  peerTest("cryptsetup", "cryptsetup-bin", "what we make, cryptsetup and QEMU open", async () => {
    const path = at(`${name}.ours`);
    const disk = await createFile(path, { format: "luks", size: 4 * MiB, passphrase, iterations: 1000, ...options });
    await writeBytes(disk, 3 * MiB, new Uint8Array(65536).fill(0x5a));
    await writeBytes(disk, 512, new Uint8Array(512).fill(0xa5));
    await disk.close();
    expect(opensWith(path, pass)).toBe(true);
    expect(opensWith(path, other)).toBe(false);
    const said = qemuIoSecret(pass, byQemu(path), "read -P 0x5a 3M 64k", "read -P 0xa5 512 512", "write -P 0x77 1M 8k");
    expect(said).not.toContain("fail");
    const again = await open(path, true);
    expect(again.size).toBe(4 * MiB);
    expect((await readBytes(again, MiB, 8192)).every((byte) => byte === 0x77)).toBe(true);
    await again.close();
  });

  // QEMU takes a second to find out how fast it is.
  if (options.cipher === "aes-cbc-plain" || options.cipher === "aes-xts-plain") return;
  peerTest("qemu-img", "qemu-utils", "what QEMU makes, we read and write", async () => {
    const path = at(`${name}.theirs`);
    createByQemu(pass, "luks", `key-secret=sec0,iter-time=10,${qemu}`, path, "4M");
    qemuIoSecret(pass, byQemu(path), "write -P 0x11 0 1M", "write -P 0x22 2M 4k");
    const disk = await open(path);
    expect(disk.size).toBe(4 * MiB);
    expect((await readBytes(disk, 0, MiB)).every((byte) => byte === 0x11)).toBe(true);
    expect((await readBytes(disk, 2 * MiB, 4096)).every((byte) => byte === 0x22)).toBe(true);
    await writeBytes(disk, 3 * MiB, new Uint8Array(1536).fill(0x33));
    await disk.close();
    expect(qemuIoSecret(pass, byQemu(path), "read -P 0x33 3M 1536")).not.toContain("fail");
    const theirs = JSON.parse(qemuImg("info", "--output", "json", path))["format-specific"].data;
    const ours = await open(path, true);
    expect((ours.describe().formatSpecific as { data: unknown }).data).toMatchObject({
      ...theirs,
      slots: theirs.slots.map((slot: object) => slot),
    });
    await ours.close();
    await expect(open(path, true, newPassphrase)).rejects.toMatchObject({
      code: "DENIED",
      message: /wrong passphrase/,
    });
  });
});

peerTest("qemu-img", "qemu-utils", "AES-192 in XTS, which QEMU makes: both ways", async () => {
  const theirs = at("aes-192.theirs");
  createByQemu(pass, "luks", "key-secret=sec0,cipher-alg=aes-192,iter-time=10", theirs, "1M");
  qemuIoSecret(pass, byQemu(theirs), "write -P 0x31 0 64k", "write -P 0x32 1000k 24k");
  const mine = at("aes-192.ours");
  const options = { format: "luks", size: MiB, passphrase, iterations: 1000, keySize: 384 };
  const [disk, made] = [await open(theirs), await createFile(mine, options)];
  const content = await readBytes(disk, 0, MiB);
  expect([content[0], content[65535], content[1000 * 1024]]).toEqual([0x31, 0x31, 0x32]);
  await writeBytes(made, 0, content);
  for (const each of [disk, made]) {
    await writeBytes(each, 65536, new Uint8Array(512).fill(0x33));
    await each.close();
  }
  for (const file of [theirs, mine]) {
    qemuIoSecret(pass, byQemu(file), "read -P 0x31 0 64k", "read -P 0x33 64k 512", "read -P 0x32 1000k 24k");
  }
});

describe.each(["argon2i", "argon2id", "pbkdf2"])("LUKS2 that cryptsetup makes with %s", (kind) => {
  peerTest("cryptsetup", "cryptsetup-bin", "and second keys by the others: every one opens it", async () => {
    const path = at(`kdf-${kind}`);
    new FileStore(path, { create: true }).close();
    truncateSync(path, 18 * MiB);
    const cost = (kdf: string) => [
      ...["--pbkdf", kdf, "--pbkdf-force-iterations", kdf === "pbkdf2" ? "1000" : "4"],
      ...(kdf === "pbkdf2" ? [] : ["--pbkdf-memory", "1024", "--pbkdf-parallel", "2"]),
    ];
    cryptsetup("luksFormat", "--type", "luks2", ...cost(kind), "--key-file", pass, path);
    const files = ["argon2i", "argon2id", "pbkdf2"].map((kdf) => {
      const file = passphraseFile(at(`by-${kdf}`), `by ${kdf}`);
      cryptsetup("luksAddKey", ...cost(kdf), "--key-file", pass, path, file);
      return file;
    });
    for (const file of [pass, ...files]) {
      const disk = await open(path, true, new Uint8Array(readFileSync(file)));
      expect(disk.size).toBe(2 * MiB);
      expect(listKeys(disk).filter(({ active }) => active)).toHaveLength(4);
      await disk.close();
    }
    await expect(open(path, true, bytesOf("no"))).rejects.toThrow(/wrong passphrase: none of the 4 key slots opens/);
    cryptsetup("erase", path);
    await expect(open(path, true)).rejects.toThrow(/no key slot in use: no passphrase opens it/);
  });
});

peerTest("cryptsetup", "cryptsetup-bin", "a detached header is refused by name", async () => {
  for (const type of ["luks1", "luks2"]) {
    const [header, data] = [at(`${type}.header`), at(`${type}.data`)];
    new FileStore(data, { create: true }).close();
    truncateSync(data, 4 * MiB);
    const cost = ["--pbkdf-force-iterations", "1000", ...(type === "luks2" ? ["--pbkdf", "pbkdf2"] : [])];
    cryptsetup("luksFormat", "--type", type, ...cost, "--header", header, "--key-file", pass, data);
    await expect(open(header, true)).rejects.toMatchObject({
      code: "UNSUPPORTED",
      message: expect.stringContaining("the header is detached"),
    });
  }
});

peerTest("cryptsetup", "cryptsetup-bin", "what cryptsetup formats as LUKS1, we open; its second key too", async () => {
  const path = at("cryptsetup1");
  new FileStore(path, { create: true }).close();
  truncateSync(path, 4 * MiB);
  cryptsetup("luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--key-file", pass, path);
  cryptsetup("luksAddKey", "--pbkdf-force-iterations", "1000", "--key-file", pass, path, other);
  for (const given of [passphrase, newPassphrase]) {
    const disk = await open(path, true, given);
    expect(disk.size).toBe(2 * MiB);
    expect(listKeys(disk).filter(({ active }) => active)).toHaveLength(2);
    await disk.close();
  }
});

describe.each([1, 2] as const)("key slots of LUKS%i", (version) => {
  peerTest("cryptsetup", "cryptsetup-bin", "those we add and erase, cryptsetup sees", async () => {
    const path = at(`slots${version}`);
    const made = { format: "luks", size: MiB, passphrase, version, iterations: 1000 };
    const disk = await createFile(path, version === 2 ? { ...made, pbkdf: "pbkdf2" } : made);
    const content = new Uint8Array(MiB).map((_, i) => i * 7);
    await writeBytes(disk, 0, content);
    expect(await addKey(disk, { passphrase, newPassphrase, slot: 6, iterations: 1000 })).toBe(6);
    await flush(disk);
    expect(opensWith(path, other, "--key-slot", "6")).toBe(true);
    await expect(addKey(disk, { passphrase: bytesOf("no"), newPassphrase })).rejects.toMatchObject({ code: "DENIED" });
    await expect(addKey(disk, { passphrase, newPassphrase, slot: 6 })).rejects.toMatchObject({ code: "INVALID" });
    expect(await eraseKey(disk, { passphrase })).toEqual([0]);
    expect(opensWith(path, pass)).toBe(false);
    expect(opensWith(path, other)).toBe(true);
    await expect(eraseKey(disk, { passphrase: newPassphrase })).rejects.toThrow(/last key slot/);
    await expect(eraseKey(disk, { slot: 3 })).rejects.toMatchObject({ code: "NOT_FOUND" });
    await disk.close();
    const again = await open(path, true, newPassphrase);
    expect(Buffer.compare(await readBytes(again, 0, MiB), content)).toBe(0);
    await again.close();
    cryptsetup("luksAddKey", "--pbkdf-force-iterations", "1000", "--pbkdf", "pbkdf2", "--key-file", other, path, pass);
    const last = await open(path, true);
    expect(Buffer.compare(await readBytes(last, 0, MiB), content)).toBe(0);
    await last.close();
  });
});

/** The data as OpenSSL decrypts it with the volume key that cryptsetup shows. */
function byOpenSsl(path: string, offset: number, length: number, sectorBytes: number): Buffer {
  const keyFile = `${path}.key`;
  cryptsetup("luksDump", "--dump-volume-key", "--volume-key-file", keyFile, "--key-file", pass, path);
  const key = readFileSync(keyFile);
  const data = readFileSync(path).subarray(offset, offset + length);
  const parts: Buffer[] = [];
  for (let from = 0; from < length; from += sectorBytes) {
    const iv = Buffer.alloc(16);
    iv.writeBigUInt64LE(BigInt(from / 512));
    const cipher = createDecipheriv(`aes-${key.length * 4}-xts`, key, iv);
    parts.push(cipher.update(data.subarray(from, from + sectorBytes)), cipher.final());
  }
  return Buffer.concat(parts);
}

describe.each([
  { sectorSize: 512, pbkdf: "pbkdf2", keySize: 512 },
  { sectorSize: 4096, pbkdf: "argon2id", keySize: 256 },
] as const)("LUKS2, sectors of $sectorSize, $pbkdf", ({ sectorSize, pbkdf, keySize }) => {
  peerTest("cryptsetup", "cryptsetup-bin", "what we make, cryptsetup opens, and OpenSSL reads", async () => {
    const path = at(`luks2-${sectorSize}.ours`);
    const options = { format: "luks", size: 2 * MiB, passphrase, version: 2, sectorSize, pbkdf, keySize };
    const cost = pbkdf === "pbkdf2" ? { iterations: 1000 } : { iterations: 4, memory: 2 ** 20 };
    const disk = await createFile(path, { ...options, ...cost });
    expect(disk.sectorSize).toBe(sectorSize);
    const content = new Uint8Array(2 * MiB).map((_, i) => (i * 31) >> 5);
    await writeBytes(disk, 0, content);
    await disk.close();
    expect(statSync(path).size).toBe(18 * MiB);
    expect(opensWith(path, pass)).toBe(true);
    expect(opensWith(path, other)).toBe(false);
    expect(cryptsetup("luksDump", path)).toContain(`sector: ${sectorSize} [bytes]`);
    expect(Buffer.compare(byOpenSsl(path, 16 * MiB, content.length, sectorSize), content)).toBe(0);
  });

  peerTest("cryptsetup", "cryptsetup-bin", "what cryptsetup makes, we read and write", async () => {
    const path = at(`luks2-${sectorSize}.theirs`);
    new FileStore(path, { create: true }).close();
    truncateSync(path, 18 * MiB);
    const cost = pbkdf === "pbkdf2" ? ["1000"] : ["4", "--pbkdf-memory", "1024", "--pbkdf-parallel", "2"];
    const kind = ["--type", "luks2", "--sector-size", `${sectorSize}`, "--key-size", `${keySize}`, "--pbkdf", pbkdf];
    cryptsetup("luksFormat", ...kind, "--pbkdf-force-iterations", ...cost, "--key-file", pass, path);
    const disk = await open(path);
    expect(disk.size).toBe(2 * MiB);
    const content = new Uint8Array(MiB).map((_, i) => (i * 13) >> 3);
    await writeBytes(disk, MiB, content);
    await disk.close();
    expect(Buffer.compare(byOpenSsl(path, 16 * MiB, 2 * MiB, sectorSize).subarray(MiB), content)).toBe(0);
    await expect(open(path, true, newPassphrase)).rejects.toMatchObject({ code: "DENIED" });
  });

  peerTest(
    "cryptsetup",
    "cryptsetup-bin",
    "one of its headers is damaged: cryptsetup and we use the other",
    async () => {
      const path = at(`luks2-${sectorSize}.damaged`);
      copyFileSync(at(`luks2-${sectorSize}.theirs`), path);
      const store = new FileStore(path, {});
      const { SegmentList } = await import("../../src/core/segments.ts");
      store.writev(4200, new Uint8Array(64), SegmentList.of(0, 64));
      store.close();
      const warnings: string[] = [];
      const disk = await openDisk(new FileStore(path, {}), {
        passphrase,
        onWarning: (message) => warnings.push(message),
      });
      expect(warnings.join()).toMatch(/wrong checksum; its second copy is used/);
      expect(await addKey(disk, { passphrase, newPassphrase, iterations: pbkdf === "pbkdf2" ? 1000 : 4 })).toBe(1);
      await disk.close();
      const mended = await openDisk(new FileStore(path, { readOnly: true }), {
        passphrase: newPassphrase,
        onWarning: (message) => warnings.push(message),
      });
      await mended.close();
      expect(warnings).toHaveLength(1);
      expect(opensWith(path, other)).toBe(true);
    },
  );
});
