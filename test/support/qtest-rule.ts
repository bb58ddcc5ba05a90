import { expect, test } from "vitest";
import { PacketOp } from "../../assembly/spec/mmc.ts";
import { cdb } from "./cd.ts";
import type { Known } from "./qtest-history.ts";
import { knownDifference } from "./qtest-known.ts";
import { type CdPlace, Layout, type PrdEntry, type Program, type Sizes, type Step } from "./qtest-program.ts";
import { Ours } from "./qtest-sides.ts";
import { SNAPSHOT } from "./qtest-trace.ts";

export const out = (register: number, value: number, width: 1 | 4 = 1): Step => ({ do: "out", register, width, value });
export const read = (register: number): Step => ({ do: "in", register, width: 1 });
export const BLOCK: Step = { do: "block" };

/** A packet command with that byte count limit. */
export const packet = (bytes: readonly number[], limit = 2048, features = 0): Step[] => [
  out(1, features),
  out(4, limit & 0xff),
  out(5, limit >> 8),
  out(7, 0xa0),
  { do: "packet", bytes: [...cdb(...bytes)] },
];

/** READ (10) of one block. */
export const READ = [PacketOp.Read10, 0, 0, 0, 0, 1, 0, 0, 1];

/** A table of one region, and its address in the bus master. */
export const table = (bytes: number, address: number = Layout.Window): Step[] => {
  const entry: PrdEntry = [address, (0x80000000 | bytes) >>> 0];
  return [{ do: "prds", at: Layout.Table, entries: [entry] }, out(20, Layout.Table, 4)];
};

/** What the other side has after the last step that ours has not: registers by their name in SNAPSHOT, and values read. */
interface Other {
  registers?: Readonly<Record<string, number>>;
  values?: Readonly<Record<number, number>>;
}

/** Two drives of 4,096 sectors, or what stands in their place. */
export interface Place {
  sizes?: Sizes;
  cd?: CdPlace;
}

/** The rule that excuses a difference in `what` after the last step of `program`: ours runs it, `other` is the other side. */
function ruleFor(program: Program, what: string, other: Other, place: Place = {}): string | undefined {
  const { sizes = [4096, 4096], cd = null } = place;
  const ours = new Ours(0, sizes, cd);
  ours.reset();
  const { traces } = ours.run(program);
  const theirs = traces.map((trace) => ({ ...trace, registers: [...trace.registers], values: [...trace.values] }));
  const last = theirs[theirs.length - 1];
  for (const [name, value] of Object.entries(other.registers ?? {})) {
    const at = SNAPSHOT.findIndex(([, , each]) => each === name);
    if (at < 0 && name !== "interrupt line") throw new Error(`no register ${name}`);
    last.registers[at < 0 ? SNAPSHOT.length : at] = value;
  }
  for (const [i, value] of Object.entries(other.values ?? {})) last.values[Number(i)] = value;
  return knownDifference({ program, step: program.length - 1, what, ours: traces, theirs, cd: cd?.drive })?.name;
}

/** A program, what differs after its last step, and what the other side has there. */
type Shown = readonly [program: Program, what: string, other: Other["registers"], values?: Other["values"]];

/** By rule: where it holds, and what nobody excuses. */
export type Cases = Readonly<Record<string, { holds: readonly Shown[]; beside: readonly Shown[] }>>;

/** Tests that each of `rules` has its case, holds where it should, and that nothing excuses what stands beside it. */
export function proveRules(rules: readonly Known[], cases: Cases, place: Place): void {
  const ruleOf = ([program, what, registers = {}, values = {}]: Shown) =>
    ruleFor(program, what, { registers, values }, place);
  test("every rule is here", () => {
    expect(Object.keys(cases)).toEqual(rules.map(({ name }) => name));
  });
  test.each(Object.entries(cases))("%s", (name, { holds, beside }) => {
    expect(holds.length * beside.length).toBeGreaterThan(0);
    expect(holds.map(ruleOf)).toEqual(holds.map(() => name));
    expect(beside.map(ruleOf)).toEqual(beside.map(() => undefined));
  });
}
