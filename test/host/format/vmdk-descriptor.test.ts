import { describe, expect, test } from "vitest";
import { changedDescriptor, parseDescriptor } from "../../../src/host/format/vmdk/descriptor.ts";

const text = (head: string, newline = "\n") =>
  [
    "# Disk DescriptorFile",
    "version=1",
    head,
    "CID=12345678",
    "parentCID=ffffffff",
    'createType="monolithicSparse"',
    'RW 8 SPARSE "a"',
    "",
  ]
    .filter((line) => line !== "-")
    .join(newline);
const PARENT = { cid: "00abcdef", path: "d\u00e4nk.vmdk" };

describe("a parent is noted", () => {
  test.each([
    ["in UTF-8", text('encoding="UTF-8"')],
    ["in a code page", text('encoding="windows-1252"')],
    ["where nothing is said of encodings", text("-")],
    ["between lines that end as Windows' do", text('encoding="windows-1252"', "\r\n")],
    ["where there was no parentCID", text("-").replace("parentCID=ffffffff\n", "")],
    ["behind a space", text("-").replace("=ffffffff", " = ffffffff")],
    ["where the parentCID was none", text("-").replace("=ffffffff", "=xyz")],
  ])("%s", (_, before) => {
    const noted = changedDescriptor(before, { parent: PARENT });
    expect(parseDescriptor(noted)).toMatchObject({ parentCid: PARENT.cid, parentHint: PARENT.path, cid: "12345678" });
    const removed = parseDescriptor(changedDescriptor(noted, { parent: null }))!;
    expect([removed.parentCid, removed.parentHint]).toEqual(["ffffffff", undefined]);
    expect(removed.extents).toMatchObject([{ file: "a", sectors: 8 }]);
  });

  test("or refused, where the encoding has no such letter", () => {
    const change = () =>
      changedDescriptor(text('encoding="windows-1252"'), { parent: { ...PARENT, path: "\u4e2d.vmdk" } });
    expect(change).toThrow(/no way to write the name/);
  });
});
