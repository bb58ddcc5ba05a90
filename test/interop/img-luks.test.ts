import { readFileSync, statSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { done, ours, scratch, theirs } from "../support/img.ts";
import { createByQemu, opensWith, passphraseFile, qemuIoSecret } from "../support/luks.ts";
import { peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const at = scratch();
const pass = passphraseFile(at("pass"), "correct horse");
const other = passphraseFile(at("other"), "battery staple");
const secret = ["--object", `secret,id=sec0,file=${pass}`];
const raw = at("disk.raw");
const content = Buffer.alloc(3 * MiB).map((_, i) => (i >> 18 === 3 ? 0 : (i * 11) >> 3));
writeFileSync(raw, content);

const CASES = [
  { format: "qcow2", prefix: "encrypt.", head: "encrypt.format=luks," },
  { format: "luks", prefix: "", head: "" },
];

describe.each(CASES)("the command lines that scripts have for $format", ({ format, prefix, head }) => {
  const path = at(`disk.${format}`);
  const how = `${head}${prefix}key-secret=sec0,${prefix}iter-time=10`;
  const opts = `driver=${format},${prefix}key-secret=sec0,file.filename=${path}`;

  peerTest("qemu-img", "qemu-utils", "convert to it, compare, and back, ours and QEMU's", async () => {
    await done("convert", ...secret, "-f", "raw", "-O", format, "-o", how, raw, path);
    expect(theirs("compare", ...secret, "--image-opts", `driver=raw,file.filename=${raw}`, opts).code).toBe(0);
    expect((await ours("compare", ...secret, "--image-opts", `driver=raw,file.filename=${raw}`, opts)).code).toBe(0);
    qemuIoSecret(pass, opts, "write -P 0x55 1M 64k");
    const back = at(`${format}.raw`);
    await done("convert", ...secret, "--image-opts", opts, "-O", "raw", back);
    const expected = Buffer.from(content).fill(0x55, MiB, MiB + 65536);
    expect(Buffer.compare(readFileSync(back), expected)).toBe(0);
    await done("convert", "--passphrase-file", pass, "-f", format, path, back);
    expect(Buffer.compare(readFileSync(back), expected)).toBe(0);
  });

  peerTest(
    "qemu-img",
    "qemu-utils",
    "convert into one that exists, named by options, from one with another secret",
    async () => {
      const [from, to] = [at(`from.${format}`), at(`to.${format}`)];
      await done("convert", ...secret, "-f", "raw", "-O", format, "-o", how, raw, from);
      const [theirSecret, target] = [
        ["--object", `secret,id=t,file=${other}`],
        `driver=${format},${prefix}key-secret=t,file.filename=${to}`,
      ];
      await done("create", ...theirSecret, "-f", format, "-o", how.replace("sec0", "t"), to, "3M");
      const source = opts.replace(path, from);
      await done("convert", "-n", "--image-opts", "--target-image-opts", ...secret, ...theirSecret, source, target);
      const plain = `driver=raw,file.filename=${raw}`;
      expect(theirs("compare", ...theirSecret, "--image-opts", plain, target)).toMatchObject({ code: 0 });
      // What qemu-img takes as a hint, -C and -W, changes nothing.
      await done("convert", "-C", "-W", "-n", "--target-image-opts", ...theirSecret, raw, target);
      const made = await ours("convert", "--target-image-opts", ...theirSecret, raw, target);
      expect(made).toMatchObject({ code: 1, stderr: expect.stringContaining("requires use of -n") });
    },
  );

  peerTest("qemu-img", "qemu-utils", "create says what QEMU's says, and info needs no passphrase", async () => {
    const [one, two] = [at(`one.${format}`), at(`two.${format}`)];
    const said = await done("create", ...secret, "-f", format, "-o", how, one, "4M");
    const shown = createByQemu(pass, format, how, two, "4M");
    expect(said).toBe(shown.replaceAll("two.", "one."));
    const [a, b] = [
      JSON.parse(await done("info", "--output", "json", two)),
      JSON.parse(theirs("info", "--output", "json", two).stdout),
    ];
    expect(a.encrypted).toBe(b.encrypted);
    const { "detached-header": _, ...data } = b["format-specific"].data.encrypt ?? b["format-specific"].data;
    expect(a["format-specific"].data.encrypt ?? a["format-specific"].data).toMatchObject(data);
    expect(await done("info", two)).toContain("encrypted: yes");
  });

  test("measure says how large the file gets, and needs no passphrase", async () => {
    const file = at(`measured.${format}`);
    for (const more of ["", ",preallocation=falloc", ",preallocation=full"]) {
      const { required } = JSON.parse(
        await done("measure", "--output", "json", "-O", format, "-o", how + more, "--size", "5M"),
      );
      await done("create", ...secret, "-f", format, "-o", how + more, file, "5M");
      const { size } = statSync(file);
      // Of qcow2 all tables are counted, of which an empty image has none yet.
      expect(size).toBeLessThanOrEqual(required);
      expect([more, size]).toEqual([more, format === "qcow2" && more === "" ? required - 65536 : required]);
    }
  });

  peerTest("qemu-img", "qemu-utils", "amend adds a passphrase and erases the first, as QEMU sees it", async () => {
    const add = `${prefix}state=active,${prefix}new-secret=sec1,${prefix}iter-time=10`;
    const fresh = ["--object", `secret,id=sec1,file=${other}`];
    expect((await ours("amend", ...fresh, "-o", add, path)).stderr).toMatch(/no passphrase was given/);
    await done("amend", "--passphrase-file", pass, ...fresh, "-o", add, path);
    await done("amend", ...secret, "-o", `${prefix}state=inactive,${prefix}old-secret=sec0`, path);
    expect(qemuIoSecret(other, opts, "read -P 0x55 1M 64k")).toContain("read 65536/65536");
    const wrong = await ours("convert", "--passphrase-file", pass, "-f", format, path, at("never.raw"));
    expect(wrong).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^Could not open .*wrong passphrase/),
    });
    const last = await ours("amend", "-o", `${prefix}state=inactive,${prefix}keyslot=1`, path);
    expect(last.stderr).toMatch(/last key slot/);
    // The slot that it was opened with gets the first passphrase again, which only force does.
    const back = `${prefix}state=active,${prefix}keyslot=1,${prefix}new-secret=sec0,${prefix}iter-time=10`;
    const again = ["amend", "--passphrase-file", other, ...secret, "-o", back, path];
    expect(await ours(...again)).toMatchObject({ code: 1, stderr: expect.stringContaining("key slot 1 is in use") });
    await done(...again, "--force");
    expect(qemuIoSecret(pass, opts, "read -P 0x55 1M 64k")).toContain("read 65536/65536");
    expect((await ours("convert", "--passphrase-file", other, "-f", format, path, at("never.raw"))).code).toBe(1);
  });
});

peerTest("cryptsetup", "cryptsetup-bin", "LUKS version 2 can be asked for", async () => {
  const path = at("two.luks");
  const how = "key-secret=sec0,version=2,pbkdf=pbkdf2,iter-time=10,sector_size=4096";
  await done("create", ...secret, "-f", "luks", "-o", how, path, "1M");
  expect(opensWith(path, pass)).toBe(true);
});

test("a secret on the command line, a missing one and a wrong name are refused in one line", async () => {
  const file = at("no.qcow2");
  const make = (...args: string[]) => ours("create", "-f", "qcow2", ...args, file, "1M");
  const sayings: [string[], RegExp][] = [
    [
      ["--object", "secret,id=sec0,data=hunter2", "-o", "encrypt.format=luks,encrypt.key-secret=sec0"],
      /put the secret into a file/,
    ],
    [["-o", "encrypt.format=luks"], /key-secret' is required/],
    [["-o", "encrypt.format=luks,encrypt.key-secret=sec9"], /No secret with id 'sec9'/],
    [[...secret, "-o", "encrypt.format=aes,encrypt.key-secret=sec0"], /too weak/],
    [[...secret, "-o", "encrypt.format=luks,encrypt.key-secret=sec0,encrypt.cipher-alg=des"], /aes-256/],
    [
      ["--object", `secret,id=s,file=${at("none")}`, "-o", "encrypt.format=luks,encrypt.key-secret=s"],
      /could not be read/,
    ],
  ];
  for (const [args, saying] of sayings) {
    const { code, stderr } = await make(...args);
    expect([code, stderr]).toEqual([1, expect.stringMatching(saying)]);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).not.toContain("hunter2");
  }
  expect(
    (
      await ours(
        "convert",
        "-c",
        ...secret,
        "-O",
        "qcow2",
        "-o",
        "encrypt.format=luks,encrypt.key-secret=sec0",
        raw,
        file,
      )
    ).code,
  ).toBe(1);
});
