import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { allowFolders, anyFile, createDisk, FileStore, MemoryStore, openDisk, openFile } from "../../src/node.ts";

const MiB = 2 ** 20;
let folder: string;
const at = (...names: string[]) => join(folder, ...names);

async function make(path: string, options: Record<string, unknown> = {}) {
  fs.mkdirSync(join(path, ".."), { recursive: true });
  const needsParent = options.backingFile !== undefined || options.parent !== undefined;
  const { backing, ...rest } = options;
  const given = backing
    ? await openDisk(new FileStore(backing as string, { readOnly: true }))
    : needsParent
      ? await createDisk(new MemoryStore(), { format: "raw", size: MiB })
      : undefined;
  const disk = await createDisk(new FileStore(path, { create: true }), {
    format: "qcow2",
    size: MiB,
    ...rest,
    ...(given && { backing: given }),
  });
  const facts = disk.describe();
  await disk.close();
  return facts;
}

beforeEach(() => {
  folder = fs.realpathSync(fs.mkdtempSync(join(tmpdir(), "paravane-gate-")));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

async function opens(path: string, options = {}): Promise<string> {
  try {
    const disk = await openFile(path, { readOnly: true, ...options });
    const names = [];
    for (let at = disk.backing as typeof disk | undefined; at; at = at.backing as typeof disk | undefined)
      names.push((at as unknown as { store: FileStore }).store.name);
    await disk.close();
    return names.map((name) => fs.realpathSync(name).replace(`${folder}/`, "")).join(" ");
  } catch (thrown) {
    const { code, message, hint } = thrown as { code: string; message: string; hint?: string };
    return `${code}: ${message}. ${hint}`;
  }
}

test("the image's own folder, and folders in it; nothing else without leave", async () => {
  await make(at("vm", "base.qcow2"));
  await make(at("vm", "sub", "base.qcow2"));
  await make(at("else", "base.qcow2"));
  const cases: [name: string, opened: RegExp][] = [
    ["base.qcow2", /^vm\/base\.qcow2$/],
    ["./base.qcow2", /^vm\/base\.qcow2$/],
    [at("vm", "base.qcow2"), /^vm\/base\.qcow2$/],
    ["file:base.qcow2", /^vm\/base\.qcow2$/],
    [`json:{"driver":"qcow2","file":{"driver":"file","filename":"${at("vm", "base.qcow2")}"}}`, /^vm\/base\.qcow2$/],
    ["sub/base.qcow2", /^vm\/sub\/base\.qcow2$/],
    ["sub/../base.qcow2", /^vm\/base\.qcow2$/],
    ["../else/base.qcow2", /^DENIED: .*is outside .*vm\. .*--allow .*\/else/],
    [at("else", "base.qcow2"), /^DENIED: .*outside/],
    ["/etc/passwd", /^DENIED: .*outside/],
    ["http://127.0.0.1/base.qcow2", /^DENIED: .*http:\/\/127\.0\.0\.1\/base\.qcow2.*URL/],
    ["nbd:localhost:10809", /^DENIED: .*URL/],
    ["absent.qcow2", /^NOT_FOUND: .*absent\.qcow2.*rebase/],
  ];
  for (const [i, [name, expected]] of cases.entries()) {
    const top = at("vm", `top${i}.qcow2`);
    await make(top, { backingFile: name, backingFormat: "qcow2" });
    expect(await opens(top), name).toMatch(expected);
    if (name.includes("else")) {
      const gate = allowFolders([at("vm"), at("else")]);
      expect(await opens(top, { gate })).toBe("else/base.qcow2");
      expect(await opens(top, { gate: anyFile })).toBe("else/base.qcow2");
    }
  }
});

test("links are followed before anything is allowed", async () => {
  await make(at("else", "base.qcow2"));
  await make(at("vm", "top.qcow2"), { backingFile: "base.qcow2", backingFormat: "qcow2" });
  fs.symlinkSync(at("else", "base.qcow2"), at("vm", "base.qcow2"));
  expect(await opens(at("vm", "top.qcow2"))).toMatch(/^DENIED: .*outside/);
  fs.unlinkSync(at("vm", "base.qcow2"));
  fs.mkdirSync(at("vm", "d"));
  fs.symlinkSync(at("else"), at("vm", "link"));
  await make(at("vm", "top2.qcow2"), { backingFile: "link/base.qcow2", backingFormat: "qcow2" });
  expect(await opens(at("vm", "top2.qcow2"))).toMatch(/^DENIED/);
  // The folder itself may be reached through a link.
  fs.symlinkSync(at("vm"), at("door"));
  await make(at("vm", "base.qcow2"));
  expect(await opens(at("door", "top.qcow2"))).toBe("vm/base.qcow2");
});

test("a chain stays in the first image's folder, and loops are found under any name", async () => {
  await make(at("vm", "base.qcow2"));
  await make(at("vm", "sub", "middle.qcow2"), { backingFile: "../base.qcow2", backingFormat: "qcow2" });
  await make(at("vm", "top.qcow2"), { backingFile: "sub/middle.qcow2", backingFormat: "qcow2" });
  expect(await opens(at("vm", "top.qcow2"))).toBe("vm/sub/middle.qcow2 vm/base.qcow2");
  await make(at("vm", "a.qcow2"), { backingFile: "b.qcow2", backingFormat: "qcow2" });
  fs.linkSync(at("vm", "a.qcow2"), at("vm", "b.qcow2"));
  expect(await opens(at("vm", "a.qcow2"))).toMatch(/^CORRUPT: the image is based on itself/);
});

test("no pipe is waited on, and no folder opened", async () => {
  execFileSync("mkfifo", [at("pipe")]);
  await make(at("top.qcow2"), { backingFile: "pipe", backingFormat: "raw" });
  expect(await opens(at("top.qcow2"))).toMatch(/^INVALID: .*no regular file/);
  await make(at("top2.qcow2"), { backingFile: ".", backingFormat: "raw" });
  expect(await opens(at("top2.qcow2"))).toMatch(/^INVALID: .*no regular file/);
});

test("Windows' parent locators: relative, in other letters' cases, and of a host that is gone", async () => {
  for (const format of ["vhd", "vhdx"]) {
    const base = at(`Base.${format}`);
    const facts = await make(base, { format });
    const identity = String(facts.uuid ?? facts.dataWriteGuid);
    for (const [i, [path, absolutePath]] of [
      [`.\\Base.${format}`, undefined],
      [`base.${format.toUpperCase()}`, undefined],
      [`..\\gone\\x.${format}`, `C:\\Hyper-V\\Base.${format}`],
    ].entries()) {
      const top = at(`top${i}.${format}`);
      await make(top, { format, backing: base, parent: { path, identity, ...(absolutePath && { absolutePath }) } });
      expect(await opens(top), path).toBe(`Base.${format}`);
    }
    // Another disk under the right name.
    fs.rmSync(base);
    await make(base, { format });
    expect(await opens(at(`top0.${format}`))).toMatch(new RegExp(`^CORRUPT: .*Base\\.${format}, is another disk`));
  }
});

test("what a gate opened for an image that then fails is closed again", async () => {
  await make(at("base.qcow2"));
  const fd = fs.openSync(at("base.qcow2"), "r+");
  fs.writeSync(fd, Buffer.alloc(8, 0xff), 0, 8, 40);
  fs.closeSync(fd);
  await make(at("top.qcow2"), { backingFile: "base.qcow2", backingFormat: "qcow2" });
  const open = () => fs.readdirSync("/proc/self/fd").length;
  const before = open();
  for (let i = 0; i < 20; i++) expect(await opens(at("top.qcow2"))).toMatch(/^CORRUPT/);
  await new Promise((go) => setTimeout(go, 20));
  expect(open()).toBeLessThan(before + 5);
});

test("a VDI's parent is found by its UUID: beside it, in the folder above, and among those allowed", async () => {
  const child = at("vm", "Snapshots", "child.vdi");
  const makeChild = async (base: string) => {
    const disk = await openFile(base, { readOnly: true });
    const { uuid, modificationUuid } = disk.describe();
    await disk.close();
    const identity = `${uuid}/${modificationUuid}`;
    await make(child, { format: "vdi", parent: { path: "noted nowhere", identity }, backing: base });
  };
  const base = at("vm", "disk.vdi");
  await make(base, { format: "vdi" });
  await make(at("vm", "other.vdi"), { format: "vdi" });
  fs.writeFileSync(at("vm", "short"), "x");
  await makeChild(base);
  // The folder above is not its own.
  expect(await opens(child)).toContain("NOT_FOUND");
  expect(await opens(child, { gate: allowFolders([at("vm")]) })).toBe("vm/disk.vdi");
  fs.renameSync(base, at("vm", "Snapshots", "renamed.vdi"));
  expect(await opens(child)).toBe("vm/Snapshots/renamed.vdi");
  fs.mkdirSync(at("elsewhere"));
  fs.renameSync(at("vm", "Snapshots", "renamed.vdi"), at("elsewhere", "base"));
  expect(await opens(child)).toContain("NOT_FOUND");
  const gate = allowFolders([at("vm", "Snapshots"), at("elsewhere")]);
  expect(await opens(child, { gate })).toBe("elsewhere/base");
  fs.copyFileSync(at("elsewhere", "base"), at("elsewhere", "copy"));
  expect(await opens(child, { gate })).toContain("INVALID");
});
