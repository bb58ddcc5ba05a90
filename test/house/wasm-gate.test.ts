import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { Core, PAGE } from "../../src/wasm/core.ts";

/** WebAssembly core specification 2.0, §5.5.2: section ids. */
const SECTION = [
  "custom",
  "type",
  "import",
  "function",
  "table",
  "memory",
  "global",
  "export",
  "start",
  "element",
  "code",
  "data",
  "data count",
];

interface Section {
  name: string;
  body: Uint8Array;
}

function leb(bytes: Uint8Array, at: number): [value: number, next: number] {
  let value = 0;
  for (let shift = 0; ; shift += 7) {
    const byte = bytes[at++];
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return [value >>> 0, at];
  }
}

function sections(wasm: Uint8Array): Section[] {
  expect([...wasm.subarray(0, 8)]).toEqual([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  const found: Section[] = [];
  for (let at = 8; at < wasm.length; ) {
    const id = wasm[at];
    const [size, body] = leb(wasm, at + 1);
    found.push({ name: SECTION[id] ?? `#${id}`, body: wasm.subarray(body, body + size) });
    at = body + size;
  }
  return found;
}

const wasm = readFileSync("build/core.wasm");

test("the core is position-independent: no data, global, table, element, start or memory of its own", () => {
  const names = sections(wasm).map((section) => section.name);
  expect(names).toContain("code");
  for (const forbidden of ["data", "data count", "global", "table", "element", "start", "memory"]) {
    expect(names).not.toContain(forbidden);
  }
});

test("it imports one memory and nothing else", () => {
  const module = new WebAssembly.Module(wasm);
  expect(WebAssembly.Module.imports(module)).toEqual([{ module: "env", name: "memory", kind: "memory" }]);
});

test("it never grows the memory", () => {
  // The text form names every instruction, so that no operand byte can be mistaken for one.
  expect(readFileSync("build/core.wat", "utf8")).not.toContain("memory.grow");
});

test("it exports functions only, and each is declared to TypeScript", () => {
  const exports = WebAssembly.Module.exports(new WebAssembly.Module(wasm));
  expect(exports.length).toBeGreaterThan(0);
  expect(exports.filter((item) => item.kind !== "function")).toEqual([]);
  const declared = readFileSync("src/wasm/core.ts", "utf8").match(/interface CoreExports \{([\s\S]*?)\n\}/)?.[1] ?? "";
  const names = [...declared.matchAll(/^ {2}(\w+)\(/gm)].map((match) => match[1]);
  expect(exports.map((item) => item.name).sort()).toEqual(names.sort());
});

test("instantiating it over a full memory changes no byte", () => {
  const memory = new WebAssembly.Memory({ initial: 4, maximum: 4 });
  new Uint8Array(memory.buffer).fill(0xa5);
  new Core(memory);
  expect(memory.buffer.byteLength).toBe(4 * PAGE);
  expect(new Uint8Array(memory.buffer).every((byte) => byte === 0xa5)).toBe(true);
});
