import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildDist } from "./support/dist.ts";
import { RangeServer } from "./support/range-server.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-readme-"));
beforeAll(buildDist);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const readme = readFileSync("README.md", "utf8");
const [example, cdExample, overlayExample, convertExample] = [...readme.matchAll(/```js\n([\s\S]*?)```/g)].map(
  (match) => match[1],
);

test("the embedding example is twelve lines and runs as printed", async () => {
  expect(example.trimEnd().split("\n").length).toBe(12);
  const { createFile, writeBytes } = await import(resolve("dist/src/node.js"));
  const disk = await createFile(join(folder, "disk.vhd"), { format: "vhd", size: 8 << 20 });
  await writeBytes(disk, 0, new Uint8Array(4096).fill(0x5a));
  await disk.close();
  // Inside the package's folder, so that it is found by its own name, as an installed one is.
  const script = resolve("build/readme-example.mjs");
  writeFileSync(script, `${example}\nconsole.log(read.memory.every((byte) => byte === 0x5a));\n`);
  expect(execFileSync(process.execPath, [script], { cwd: folder, encoding: "utf8" })).toBe("true\n");
});

test("the example of a CD drive runs as printed", () => {
  writeFileSync(join(folder, "install.iso"), new Uint8Array(64 * 2048));
  writeFileSync(join(folder, "game.bin"), new Uint8Array(20 * 2352));
  writeFileSync(join(folder, "game.cue"), 'FILE "game.bin" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00');
  const script = resolve("build/readme-cd.mjs");
  writeFileSync(script, `${cdExample}\nconsole.log(tray.isOpen, tray.disc.sectors);\n`);
  expect(execFileSync(process.execPath, [script], { cwd: folder, encoding: "utf8" })).toBe("false 20\n");
});

test("the example of an overlay over HTTP runs as printed", async () => {
  const { createDisk, MemoryStore, writeBytes } = await import(resolve("dist/src/node.js"));
  const { SegmentList } = await import(resolve("dist/src/index.js"));
  class Kept extends MemoryStore {
    close() {}
  }
  const store = new Kept();
  const base = await createDisk(store, { format: "vhdx", size: 16 << 20 });
  await writeBytes(base, 4096, new Uint8Array(4096).fill(2));
  await base.close();
  const content = new Uint8Array(store.size);
  store.readv(0, content, SegmentList.of(0, content.length));
  const server = await RangeServer.start();
  try {
    const url = server.serve(content);
    const script = resolve("build/readme-overlay.mjs");
    const check = `import { readBytes } from "paravane";
const bytes = await readBytes(disk, 0, 8192);
console.log(bytes[0], bytes[8191], disk.format, changes.size > 4096);`;
    writeFileSync(script, `const url = ${JSON.stringify(url)};\n${overlayExample}\n${check}`);
    const { stdout } = await promisify(execFile)(process.execPath, [script], { cwd: folder });
    expect(stdout).toBe("1 2 qcow2 true\n");
  } finally {
    await server.close();
  }
});

test("the example of a program that converts an image runs as printed", async () => {
  const { createFile, openFile, readBytes, writeBytes } = await import(resolve("dist/src/node.js"));
  const disk = await createFile(join(folder, "windows.vmdk"), { format: "vmdk", size: 8 << 20 });
  await writeBytes(disk, 0, new Uint8Array(65536).fill(0xaa));
  await disk.close();
  const script = resolve("build/readme-convert.mjs");
  writeFileSync(script, `${convertExample}\nconsole.log(table[511]);\n`);
  const { stdout } = await promisify(execFile)(process.execPath, [script], { cwd: folder });
  expect(stdout).toBe("170\n");
  const made = await openFile(join(folder, "windows.qcow2"));
  expect(await readBytes(made, 65535, 2)).toEqual(Uint8Array.of(0xaa, 0));
  await made.close();
});

test("the examples of docs/ide.md run as printed, one after the other", () => {
  const examples = [...readFileSync("docs/ide.md", "utf8").matchAll(/```js\n([\s\S]*?)```/g)].map((match) => match[1]);
  expect(examples).toHaveLength(5);
  const script = resolve("build/docs-ide.mjs");
  writeFileSync(
    script,
    `${examples.join("\n")}\nconsole.log(other.tray(1, 0).isOpen, other.stopped, state.length > 1000);\n`,
  );
  const output = execFileSync(process.execPath, [script], { cwd: folder, encoding: "utf8" });
  expect(output).toBe("open\nclosed\nfalse false true\n");
});

test("the example of docs/machine.md is a machine that devices work in", () => {
  const [, example] = /```js\n([\s\S]*?)```/.exec(readFileSync("docs/machine.md", "utf8"))!;
  const script = resolve("build/docs-machine.mjs");
  const identify = `const io = (port) => machine.ports.at(port).device;
io(0x1f7).writePort(0x1f7, 1, 0xec);
const interrupts = raised.size;
io(0x1f7).readPort(0x1f7, 1);
const words = Array.from({ length: 256 }, () => io(0x1f0).readPort(0x1f0, 2));
const magic = machine.mmio.at(0xd0000000).device.readMmio(0, 4);
for (const reset of resets) reset();
console.log(status.toString(16), interrupts, raised.size, words[60] + words[61] * 65536, magic.toString(16));`;
  writeFileSync(script, `${example}\n${identify}\n`);
  const output = execFileSync(process.execPath, [script], { cwd: folder, encoding: "utf8" });
  expect(output).toBe(`50 1 0 ${(64 << 20) / 512} 74726976\n`);
});

test("the example of docs/pvscsi.md runs as printed", async () => {
  const { createFile } = await import(resolve("dist/src/node.js"));
  for (const [name, format] of [
    ["system.qcow2", "qcow2"],
    ["data.vhdx", "vhdx"],
    ["more.vhd", "vhd"],
  ])
    await (await createFile(join(folder, name), { format, size: 8 << 20, overwrite: true })).close();
  const [, example] = /```js\n([\s\S]*?)```/.exec(readFileSync("docs/pvscsi.md", "utf8"))!;
  const script = resolve("build/docs-pvscsi.mjs");
  writeFileSync(script, `${example}\nconsole.log(adapter.save().version);\n`);
  expect(execFileSync(process.execPath, [script], { cwd: folder, encoding: "utf8" })).toBe("1\n");
});

test("the two commands of the first screen are scripts of the package", () => {
  const { scripts } = JSON.parse(readFileSync("package.json", "utf8"));
  const commands = [...readme.matchAll(/^npm ci && npm (\w+)/gm)].map((match) => match[1]);
  expect(commands).toEqual(["start", "test"]);
  for (const command of commands) expect(scripts[command]).toBeTypeOf("string");
});

test("every import the README names is an export of the package", () => {
  const { exports } = JSON.parse(readFileSync("package.json", "utf8"));
  const named = [...readme.matchAll(/^\| `paravane(\/\w+)?` \|/gm)].map((match) => `.${match[1] ?? ""}`);
  expect(named.length).toBeGreaterThan(3);
  expect(Object.keys(exports)).toEqual(expect.arrayContaining(named));
});
