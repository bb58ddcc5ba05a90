import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { run } from "../../../src/core/flow.ts";
import { readRaw } from "../../../src/host/media/read.ts";
import { openCueFile } from "../../../src/node.ts";
import { sectors } from "../../support/disc.ts";

const folder = mkdtempSync(join(tmpdir(), "paravane-cue-"));
afterAll(() => rmSync(folder, { recursive: true }));

const sheet = (name: string, text: string) => {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
};
const one = (file: string) => `FILE "${file}" BINARY\nTRACK 01 AUDIO\nINDEX 01 00:00:00`;

test("a sheet and its files, in its own folder only", async () => {
  const bin = sectors(8, 2352);
  mkdirSync(join(folder, "discs"));
  writeFileSync(join(folder, "discs", "Game.BIN"), bin);
  writeFileSync(join(folder, "secret"), bin);
  for (const name of ["Game.BIN", "game.bin"]) {
    const disc = await openCueFile(sheet("discs/game.cue", one(name)));
    expect([disc.sectors, run(readRaw(disc, 3, 2))]).toEqual([8, bin.slice(3 * 2352, 5 * 2352)]);
    await disc.close();
  }
  for (const name of ["../secret", "/etc/passwd"]) {
    await expect(openCueFile(sheet("discs/bad.cue", one(name)))).rejects.toMatchObject({ code: "DENIED" });
  }
  await expect(openCueFile(sheet("discs/bad.cue", one("none.bin")))).rejects.toMatchObject({
    code: "NOT_FOUND",
    message: expect.stringContaining("line 1"),
  });
  await expect(openCueFile(join(folder, "none.cue"))).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(openCueFile(sheet("big.cue", "REM\n".repeat(300_000)))).rejects.toMatchObject({ code: "CORRUPT" });
});
