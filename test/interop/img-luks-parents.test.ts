import { readFileSync, writeFileSync } from "node:fs";
import { expect } from "vitest";
import { done, ours, qemuImg, scratch, theirs } from "../support/img.ts";
import { passphraseFile } from "../support/luks.ts";
import { peerTest } from "../support/peers.ts";

const MiB = 2 ** 20;
const at = scratch();
const objects = ["low", "middle", "high"].flatMap((id) => {
  const file = passphraseFile(at(id), `the passphrase of ${id}`);
  return ["--object", `secret,id=${id},file=${file}`];
});
const content = Buffer.alloc(2 * MiB).map((_, i) => (i >> 17) * 3 + 1);

/** A chain of three encrypted images, each with a passphrase of its own. */
async function chain(name: string): Promise<{ high: string; opts: string; middle: string; low: string }> {
  const [raw, low, middle, high] = ["raw", "low.qcow2", "middle.qcow2", "high.qcow2"].map((end) =>
    at(`${name}.${end}`),
  );
  writeFileSync(raw, content);
  const how = (id: string) => `encrypt.format=luks,encrypt.key-secret=${id},encrypt.iter-time=10`;
  await done("convert", ...objects, "-f", "raw", "-O", "qcow2", "-o", how("low"), raw, low);
  await done("create", ...objects, "-f", "qcow2", "-o", how("middle"), "-b", low, "-F", "qcow2", middle);
  await done("create", ...objects, "-f", "qcow2", "-o", how("high"), "-b", middle, "-F", "qcow2", high);
  const keys = "encrypt.key-secret=high,backing.encrypt.key-secret=middle,backing.backing.encrypt.key-secret=low";
  return { high, middle, low, opts: `driver=qcow2,${keys},file.filename=${high}` };
}

peerTest("qemu-img", "qemu-utils", "each image of a chain has its own secret, in qemu-img's words", async () => {
  const { opts, high } = await chain("read");
  const [mine, qemus] = [at("mine"), at("theirs")];
  await done("convert", ...objects, "--image-opts", opts, "-O", "raw", mine);
  qemuImg("convert", ...objects, "--image-opts", opts, "-O", "raw", qemus);
  expect(readFileSync(mine).equals(content)).toBe(true);
  expect(readFileSync(qemus).equals(content)).toBe(true);
  // Without its parents' secrets its own is tried on them, and said to be wrong there.
  const short = await ours(
    "convert",
    ...objects,
    "--image-opts",
    opts.replace(/,backing[^,]*/g, ""),
    "-O",
    "raw",
    mine,
  );
  expect([short.code, short.stderr]).toEqual([1, expect.stringMatching(/passphrase.*middle/)]);
  const json = `json:{"driver":"qcow2","encrypt.key-secret":"high","backing":{"encrypt":{"key-secret":"middle"},"backing":{"encrypt":{"key-secret":"low"}}},"file":{"filename":"${high}"}}`;
  await done("convert", ...objects, json, "-O", "raw", mine);
  expect(readFileSync(mine).equals(content)).toBe(true);
});

peerTest("qemu-img", "qemu-utils", "a new image over an encrypted parent: convert -B, rebase -b", async () => {
  const { low } = await chain("made");
  const changed = Buffer.from(content).fill(0xee, MiB, MiB + 65536);
  const raw = at("changed.raw");
  writeFileSync(raw, changed);
  const parent = (file: string) => `json:{"driver":"qcow2","encrypt.key-secret":"low","file.filename":"${file}"}`;
  const child = at("child.qcow2");
  await done("convert", ...objects, "-f", "raw", "-O", "qcow2", "-B", parent(low), "-F", "qcow2", raw, child);
  // The name alone stands in the image, so that nobody learns of secrets from it.
  expect(JSON.parse(await done("info", "--output=json", child))).toMatchObject({ "backing-filename": low });
  const opts = `driver=qcow2,backing.encrypt.key-secret=low,file.filename=${child}`;
  const compared = theirs("compare", ...objects, "--image-opts", `driver=raw,file.filename=${raw}`, opts);
  expect([compared.stderr, compared.code]).toEqual(["", 0]);

  // Onto an encrypted copy: what differs is nothing, so the image stays as it is.
  const copy = at("copy.qcow2");
  const how = "encrypt.format=luks,encrypt.key-secret=high,encrypt.iter-time=10";
  await done(
    "convert",
    ...objects,
    "--image-opts",
    `driver=qcow2,encrypt.key-secret=low,file.filename=${low}`,
    "-O",
    "qcow2",
    "-o",
    how,
    copy,
  );
  const onto = parent(copy).replace("low", "high");
  await done("rebase", ...objects, "--image-opts", "-b", onto, "-F", "qcow2", opts);
  const after = opts.replace("=low", "=high");
  const again = theirs("compare", ...objects, "--image-opts", `driver=raw,file.filename=${raw}`, after);
  expect([again.stderr, again.code]).toEqual(["", 0]);
});
