import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { arrange } from "../../src/cli/verb/boot/images.ts";
import { scanCodes } from "../../src/cli/verb/boot/keys.ts";
import { Menu } from "../../src/cli/verb/boot/menu.ts";
import { parseBoot } from "../../src/cli/verb/boot/options.ts";
import { parseScript } from "../../src/cli/verb/boot/script.ts";
import type { Session } from "../../src/cli/verb/boot/session.ts";
import { Transcript } from "../../src/cli/verb/boot/talk.ts";
import type { Disc } from "../../src/host/media/disc.ts";
import { buildDist, paravane } from "../support/dist.ts";
import { FakeBlock } from "../support/fake-block.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-boot-"));
beforeAll(buildDist);
afterAll(() => rmSync(folder, { recursive: true }));

describe("a command line that cannot work is refused before anything is opened", () => {
  test.each([
    [[], /nothing to boot/],
    [["--snapshot", "--overlay", "o.qcow2", "disk"], /give one/],
    [["--initrd", "i", "disk"], /goes with --kernel/],
    [["--memory", "4G", "disk"], /between 1M and 2047M/],
    [["--memory", "much", "disk"], /is not a size/],
    [["--nope", "disk"], /nope/],
    [["--disk-model", "scsi", "disk"], /no disk model "scsi"; there are ide, virtio, pvscsi/],
  ])("%j", (args, message) => {
    expect(() => parseBoot(args)).toThrow(message);
  });
});

test("options in any order, CDs and folders as often as wanted", () => {
  const given = parseBoot(["a.vhd", "--cdrom", "1.iso", "--memory=64M", "b.raw", "--cdrom", "2.iso", "--stats"]);
  expect(given).toMatchObject({
    images: ["a.vhd", "b.raw"],
    cdroms: ["1.iso", "2.iso"],
    memory: 64 << 20,
    stats: true,
  });
  expect(parseBoot(["--help"])).toBeNull();
});

test("disks go where --disk-model says, CDs on IDE", () => {
  const [one, two] = [new FakeBlock(512), new FakeBlock(512)];
  const disc = {} as Disc;
  expect(arrange("ide", [one, two], [disc])).toEqual({
    plugged: { ide: [[{ block: one }, { block: two }], [{ cd: disc }]] },
    cds: [[1, 0]],
  });
  for (const model of ["virtio", "pvscsi"] as const) {
    const { plugged, cds } = arrange(model, [one, two], [disc]);
    const [[channel, drive]] = cds;
    expect(plugged[model]).toEqual([one, two]);
    expect(plugged.ide?.[channel]?.[drive]).toEqual({ cd: disc });
  }
});

test("a script is read as its help says, and says where it is wrong", () => {
  const source = '# first\nexpect "a \\"b\\"" 5\n\n  send "x\\n\\x01"  \neject\ninsert "c d.iso" 1\nwait 0.5\nstats\n';
  expect(parseScript(source, "s").map(({ line, verb, text, number }) => [line, verb, text, number])).toEqual([
    [2, "expect", 'a "b"', 5],
    [4, "send", "x\n\x01", Number.NaN],
    [5, "eject", "", Number.NaN],
    [6, "insert", "c d.iso", 1],
    [7, "wait", "", 0.5],
    [8, "stats", "", Number.NaN],
  ]);
  for (const [line, message] of [
    ["expects", /s:1: unknown word "expects"/],
    ["expect x", /s:1: not understood/],
    ["send", /s:1: send wants a text/],
    ["stats 3", /s:1: stats takes no number/],
    ['send "\\q"', /s:1: not a text/],
    ["wait", /s:1: wait wants seconds/],
  ] as const) {
    expect(() => parseScript(line, "s")).toThrow(message);
  }
});

test("expect takes what came in pieces, once; and says why nothing came", async () => {
  const said = new Transcript();
  const waiting = said.expect("login: ", 5);
  said.add("log");
  said.add("in: in: ");
  expect(await waiting).toBeNull();
  expect(await said.expect("login: ", 0.01)).toMatch(/0.01 s have passed/);
  said.add("bye");
  said.end();
  expect(await said.expect("bye", 5)).toBeNull();
  expect(await said.expect("more", 5)).toBe("the guest has stopped");
});

test("Ctrl-A is ours, all else the guest's", async () => {
  const guest: number[] = [];
  const said: string[] = [];
  const done: string[] = [];
  const session = {
    eject: () => "open",
    insert: async (path: string) => `${path} is in`,
    snapshot: async () => {
      throw new Error("no room");
    },
    stats: () => ["1", "2"],
  } as unknown as Session;
  const menu = new Menu(
    session,
    (bytes) => guest.push(...bytes),
    (text) => said.push(text),
    () => done.push("quit"),
  );
  menu.type(Buffer.from("ab\x01"));
  menu.type(Buffer.from("ecd\x01a\x01te\x01idisk.issx\x7f\x7fo\rf\x01s\x01x"));
  await new Promise((resolve) => setImmediate(resolve));
  expect(Buffer.from(guest).toString()).toBe("abcd\x01ef");
  expect(said.sort()).toEqual(["1", "2", "disk.iso is in", "file to insert, then Enter:", "no room", "open"]);
  expect(done).toEqual(["quit"]);
});

test("typed characters become keys of a US keyboard", () => {
  expect(scanCodes("a".charCodeAt(0))).toEqual([0x1e, 0x9e]);
  expect(scanCodes("?".charCodeAt(0))).toEqual([0x2a, 0x35, 0xb5, 0xaa]);
  expect(scanCodes(13)).toEqual([0x1c, 0x9c]);
  expect(scanCodes(10)).toEqual([0x1c, 0x9c]);
  expect(scanCodes(3)).toEqual([0x1d, 0x2e, 0xae, 0x9d]);
  expect(scanCodes(0x7f)).toEqual([0x0e, 0x8e]);
  expect(scanCodes(200)).toEqual([]);
});

test("the help teaches, and what is missing is named with what to do", async () => {
  const help = await paravane(["boot", "--help"]);
  expect(help.code).toBe(0);
  for (const word of ["--cdrom", "--overlay", "Ctrl-A x", "expect", "npm install v86"])
    expect(help.stdout).toContain(word);
  writeFileSync(join(folder, "empty.img"), new Uint8Array(1 << 20));
  const cases: [string[], number, RegExp][] = [
    [["boot"], 2, /nothing to boot/],
    [["boot", "--bios", join(folder, "none.bin"), join(folder, "empty.img")], 1, /there is no file .*none\.bin/],
    [["boot", "--script", join(folder, "none.txt"), join(folder, "empty.img")], 1, /: there is no file .*none\.txt$/m],
  ];
  for (const [args, code, message] of cases) {
    const ended = await paravane(args);
    expect([ended.code, ended.stderr]).toEqual([code, expect.stringMatching(message)]);
  }
});
