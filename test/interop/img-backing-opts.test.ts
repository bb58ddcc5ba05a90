// Options that name another parent than the image does, or none: ours against qemu-img's on the same files.
import * as fs from "node:fs";
import { beforeAll, expect } from "vitest";
import { ours, qemuImg, qemuIo, scratch, theirs } from "../support/img.ts";
import { found, peerTest } from "../support/peers.ts";

const at = scratch();

beforeAll(() => {
  if (!found("qemu-img")) return;
  for (const [name, byte] of [
    ["base", 1],
    ["other", 9],
  ]) {
    qemuImg("create", "-q", "-f", "qcow2", at(`${name}.qcow2`), "4M");
    qemuIo("qcow2", at(`${name}.qcow2`), `write -P ${byte} 0 ${byte === 1 ? 2 : 3}M`);
  }
  for (const [name, parent] of [
    ["child", "base"],
    ["grand", "child"],
  ]) {
    qemuImg("create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", `${parent}.qcow2`, at(`${name}.qcow2`));
  }
  qemuIo("qcow2", at("child.qcow2"), "write -P 5 1M 64k");
});

const image = (name: string, more = "") => `driver=qcow2,file.filename=${at(name)}${more}`;
const json = (fields: object) => `json:${JSON.stringify({ driver: "qcow2", ...fields })}`;
const other = () => `backing.file.filename=${at("other.qcow2")}`;

peerTest("qemu-img", "qemu-utils", "another parent, none, or another format of it: the same disk", async () => {
  const own = { file: { driver: "file", filename: at("child.qcow2") } };
  const another = { driver: "qcow2", file: { driver: "file", filename: at("other.qcow2") } };
  const contents: string[] = [];
  for (const args of [
    ["--image-opts", image("child.qcow2")],
    ["--image-opts", image("child.qcow2", `,${other()}`)],
    ["--image-opts", image("child.qcow2", `,backing.driver=qcow2,backing.file.driver=file,${other()}`)],
    ["--image-opts", image("child.qcow2", `,backing.driver=raw,backing.node-name=b,${other()}`)],
    ["--image-opts", image("child.qcow2", ",backing.driver=raw")],
    ["--image-opts", image("child.qcow2", ",backing.read-only=on")],
    ["--image-opts", image("child.qcow2", ",backing=")],
    ["--image-opts", image("grand.qcow2", `,backing.file.filename=${at("child.qcow2")},backing.${other()}`)],
    ["--image-opts", image("grand.qcow2", `,backing.file.filename=${at("child.qcow2")},backing.backing=`)],
    [json({ ...own, backing: null })],
    [json({ ...own, backing: another })],
    [json({ ...own, backing: { ...another, backing: null } })],
  ]) {
    const whole = (to: string) => ["convert", "-O", "raw", ...args, at(to)];
    const results = [await ours(...whole("o.raw")), theirs(...whole("t.raw"))];
    expect([args, ...results.map(({ code }) => code)]).toEqual([args, 0, 0]);
    expect([args, fs.readFileSync(at("o.raw")).equals(fs.readFileSync(at("t.raw")))]).toEqual([args, true]);
    contents.push(fs.readFileSync(at("o.raw")).toString("latin1"));
  }
  // The options did something.
  expect(new Set(contents).size).toBeGreaterThanOrEqual(5);
});

peerTest("qemu-img", "qemu-utils", "what names no parent is refused, and nothing is made", async () => {
  for (const more of [
    ",backing=null",
    `,backing.filename=${at("other.qcow2")}`,
    ",backing.file.filename=nope.qcow2",
    `,backing.driver=nope,${other()}`,
    `,backing=,${other()}`,
  ]) {
    const args = ["convert", "--image-opts", "-O", "raw", image("child.qcow2", more), at("wrong.raw")];
    const own = await ours(...args);
    expect([more, own.code, theirs(...args).code]).toEqual([more, 1, 1]);
    expect(own.stderr).toMatch(/backing|nope/);
    expect(fs.existsSync(at("wrong.raw"))).toBe(false);
  }
  // An image that is written keeps its own parent.
  const before = fs.readFileSync(at("child.qcow2"));
  const written = await ours("resize", "--image-opts", image("child.qcow2", `,${other()}`), "8M");
  expect(written).toMatchObject({ code: 1, stderr: expect.stringContaining("not supported here") });
  expect(fs.readFileSync(at("child.qcow2")).equals(before)).toBe(true);
});
