import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect } from "vitest";
import { guestKit, KIT_TOOLS } from "../guest/kit/kit.ts";
import { BrowserRig, CHROMIUM } from "../support/browser.ts";
import { buildDist } from "../support/dist.ts";
import { found, peerTest } from "../support/peers.ts";
import { RangeServer } from "../support/range-server.ts";

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "content-range, etag, last-modified, content-encoding",
};
const folder = mkdtempSync(join(tmpdir(), "paravane-page-"));
let server: RangeServer;
beforeAll(async () => {
  await buildDist();
  server = await RangeServer.start();
  server.extra = CORS;
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await server.close();
});

/** README's example as a page has it, on a server of its own: the emulator's options before it, its serial line behind it. */
function page(disk: string, bios: string, vga: string): string {
  const [, example] = /```js\n([^`]*from "paravane\/v86"[^`]*)```/.exec(readFileSync("README.md", "utf8"))!;
  const body = example
    .replaceAll('"paravane/v86"', '"/dist/src/v86/index.js"')
    .replaceAll('"paravane"', '"/dist/src/index.js"')
    .replace('"disk.qcow2"', JSON.stringify(disk));
  return `import { V86 } from "/node_modules/v86/build/libv86.mjs";
const load = async (url) => ({ buffer: await (await fetch(url)).arrayBuffer() });
const options = {
  wasm_path: "/node_modules/v86/build/v86.wasm",
  memory_size: 128 << 20,
  vga_memory_size: 2 << 20,
  bios: await load(${JSON.stringify(bios)}),
  vga_bios: await load(${JSON.stringify(vga)}),
  disable_keyboard: true,
  disable_mouse: true,
  disable_speaker: true,
};
${body}
let said = "";
emulator.add_listener("serial0-output-byte", (byte) => {
  said += String.fromCharCode(byte);
});
/** What the guest has written, once that is part of it, or when the seconds are over. */
export async function until(text, seconds) {
  for (const end = Date.now() + seconds * 1000; !said.includes(text) && Date.now() < end; ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return said;
}
export const send = (text) => emulator.serial0_send(text);
`;
}

const [tool, installed] = [[CHROMIUM, "chromium"] as const, ...KIT_TOOLS].find(([each]) => !found(each)) ?? [
  CHROMIUM,
  "chromium",
];
peerTest(
  tool,
  installed,
  "README's lines in a page: Chromium boots a guest from a qcow2 behind HTTP, to a prompt that answers",
  async () => {
    const image = join(folder, "disk.qcow2");
    execFileSync("qemu-img", ["convert", "-c", "-O", "qcow2", guestKit().disk, image]);
    const [bios, vga] = ["bios.bin", "vgabios-stdvga.bin"].map((name) =>
      server.serve(readFileSync(`/usr/share/seabios/${name}`)),
    );
    writeFileSync("build/readme-v86.mjs", page(server.serve(readFileSync(image)), bios, vga));
    const rig = await BrowserRig.open(".");
    try {
      const call = <T>(what: string) =>
        rig.page.evaluate(`import("/build/readme-v86.mjs").then((page) => page.${what})`) as Promise<T>;
      expect(await call<string>('until("login: ", 400)')).toContain("paravane login: ");
      await call('send("root\\n")');
      expect(await call<string>('until("guest# ", 60)')).toContain("guest# ");
      await call('send("echo in $((6*7)) >/root/note; sync; cat /root/note\\n")');
      expect(await call<string>('until("in 42", 60)')).toContain("in 42");
      expect(rig.errors).toEqual([]);
    } finally {
      await rig.close();
    }
  },
  600_000,
);
