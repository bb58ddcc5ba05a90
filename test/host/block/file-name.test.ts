import { expect, test } from "vitest";
import { parseFileName } from "../../../src/host/block/file-name.ts";

test.each([
  ["base.qcow2", { path: "base.qcow2" }],
  ["../a/base.qcow2", { path: "../a/base.qcow2" }],
  ["/abs/base.qcow2", { path: "/abs/base.qcow2" }],
  ["file:base.qcow2", { path: "base.qcow2" }],
  ["file:///abs/b%20c", { path: "///abs/b%20c" }],
  ['json:{"driver":"qcow2","file":{"driver":"file","filename":"/a/b"}}', { path: "/a/b", format: "qcow2" }],
  ['json:{"driver":"vpc","file.filename":"/a/b"}', { path: "/a/b", format: "vhd" }],
  ['json:{"driver":"file","filename":"/a/b"}', { path: "/a/b" }],
])("QEMU's %s", (name, expected) => {
  expect(parseFileName(name, false)).toEqual(expected);
});

test.each([
  ["", /empty/],
  ["a\0b", /NUL/],
  ["https://example.com/base.qcow2", /URL/],
  ["nbd:unix:/tmp/socket", /URL/],
  ["c:\\base.vhd", /./],
  ["file:nbd://host/x", /URL/],
  ["json:{", /parse/],
  ["json:[]", /./],
  ['json:{"driver":"raw","offset":512,"file.filename":"/a"}', /"offset"/],
  ['json:{"driver":"qcow2","backing":null,"file.filename":"/a"}', /"backing"/],
  ['json:{"driver":"qcow2","file":{"driver":"nbd","filename":"/a"}}', /no file/],
  ['json:{"driver":"qcow2","file":{"filename":"base"}}', /relative/],
  ['json:{"driver":"qcow2","file":{"filename":"nbd://host"}}', /no file/],
  ['json:{"driver":"qcow2","file":{"filename":7}}', /no text/],
  ['json:{"driver":"qcow2"}', /without/],
  ['json:{"filename":"/a","file":"/b"}', /without one/],
])("refuses %j", (name, why) => {
  const parsed = parseFileName(name, false);
  if (name === "c:\\base.vhd") expect(parsed).toEqual({ path: name });
  else expect(parsed).toEqual({ refusal: expect.stringMatching(why) });
});

test.each([
  [".\\base.vhd", "./base.vhd"],
  ["..\\up\\base.vhdx", "../up/base.vhdx"],
  // What a host without drives wrote.
  ["\\srv\\base.vhd", "/srv/base.vhd"],
  ["C:\\VMs\\base.vhd", "base.vhd"],
  ["C:base.vhd", "base.vhd"],
  ["\\\\server\\share\\base.vhdx", "base.vhdx"],
  ["\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\VMs\\base.vhdx", "base.vhdx"],
  ["file://localhost/srv/a%20b.vhd", "/srv/a b.vhd"],
  ["file:///C:/VMs/base.vhd", "base.vhd"],
])("Windows' %s", (name, path) => {
  expect(parseFileName(name, true)).toEqual({ path });
});

test("on Windows its own names are taken as they are", () => {
  expect(parseFileName("C:\\VMs\\base.vhd", true, true)).toEqual({ path: "C:\\VMs\\base.vhd" });
});
