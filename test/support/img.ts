import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { Ui } from "../../src/cli/ui.ts";
import { img } from "../../src/cli/verb/img/index.ts";
import type { Ended } from "./dist.ts";

class Captured extends Ui {
  lines: string[] = [];
  notes: string[] = [];
  override out(text: string): void {
    this.lines.push(text);
  }
  override note(text: string): void {
    this.notes.push(text);
  }
  override progress(): void {}
  override percent(): void {}
  override clear(): void {}
}
const ui = new Captured();

/** `paravane img …` in this process, which costs no start. */
export async function ours(...args: string[]): Promise<Ended> {
  ui.lines = [];
  ui.notes = [];
  const code = await img.main(args, ui);
  const text = (lines: string[]) => lines.map((line) => `${line}\n`).join("");
  return { code, stdout: text(ui.lines), stderr: text(ui.notes) };
}

/** The same, when it must succeed: what it printed. */
export async function done(...args: string[]): Promise<string> {
  const ended = await ours(...args);
  if (ended.code !== 0) throw new Error(`paravane img ${args.join(" ")}: ${ended.code}\n${ended.stderr}`);
  return ended.stdout;
}

/** `qemu-img …`, however it ends. */
export function theirs(...args: string[]): Ended {
  const { status, stdout, stderr } = spawnSync("qemu-img", args, { encoding: "utf8" });
  return { code: status ?? -1, stdout, stderr };
}

export const qemuImg = (...args: string[]) => execFileSync("qemu-img", args, { encoding: "utf8" });
export const qemuIo = (format: string, file: string, ...commands: string[]) =>
  execFileSync("qemu-io", ["-f", format, ...commands.flatMap((command) => ["-c", command]), file], {
    encoding: "utf8",
  });

/** Paths in a folder that goes when the file's tests are over. */
export function scratch(): (name: string) => string {
  const folder = fs.mkdtempSync(join(tmpdir(), "paravane-img-"));
  afterAll(() => fs.rmSync(folder, { recursive: true }));
  return (name) => join(folder, name);
}

/** A raw file of that size with some text at each place. */
export function rawFile(path: string, size: number, places: readonly [position: number, length: number][]): string {
  const fd = fs.openSync(path, "w");
  fs.ftruncateSync(fd, size);
  for (const [position, length] of places) {
    fs.writeSync(fd, Buffer.alloc(length, `${position} paravane `), 0, length, position);
  }
  fs.closeSync(fd);
  return path;
}
