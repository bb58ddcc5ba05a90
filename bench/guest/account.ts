import { Session } from "node:inspector/promises";
import type { Guest } from "../../test/support/v86-guest.ts";

/** What a guest has asked of its devices, and where this process has spent its time meanwhile. */
export interface Account {
  /** Accesses to ports and to memory outside RAM, by the emulator's own code and ours alike. */
  callbacks: number;
  /** Interrupts that the guest has counted, but the timer's and the serial line's. */
  interrupts: number;
  /** Microseconds of the profile, by whose code it was. */
  guest: number;
  emulator: number;
  devices: number;
  idle: number;
}

const ACCESSES = ["read8", "read16", "read32", "write8", "write16", "write32"];

/** Counts accesses until the function returned is called. */
function count(guest: Guest): () => number {
  let callbacks = 0;
  const undo: (() => void)[] = [];
  const wrap = (of: object, name: string) => {
    const functions = of as Record<string, (...args: unknown[]) => unknown>;
    const own = Object.hasOwn(of, name);
    const original = functions[name];
    functions[name] = function (this: unknown, ...args: unknown[]) {
      callbacks++;
      return original.apply(this, args);
    };
    undo.push(() => {
      if (own) functions[name] = original;
      else delete functions[name];
    });
  };
  const { cpu } = guest;
  for (const access of ACCESSES) {
    wrap(cpu.io, `port_${access}`);
    if (access !== "read16") wrap(cpu, `mmap_${access}`);
  }
  return () => {
    for (const each of undo) each();
    return callbacks;
  };
}

const TIMER = 0;
const SERIAL = 4;

/** Interrupts so far, of all lines but two. */
async function interruptsOf(guest: Guest): Promise<number> {
  let sum = 0;
  for (const [, line, times] of (await guest.run("cat /proc/interrupts")).matchAll(/^ *(\d+): +(\d+)/gm)) {
    if (Number(line) !== TIMER && Number(line) !== SERIAL) sum += Number(times);
  }
  return sum;
}

interface Frame {
  functionName: string;
  url: string;
}

/** Code that v86 has translated from the guest's has no name of its own. */
function ownerOf({ functionName, url }: Frame): "guest" | "emulator" | "devices" | "idle" {
  if (functionName === "(idle)") return "idle";
  if (url.startsWith("wasm:")) {
    if (url.includes("v86.wasm")) return "emulator";
    return /^wasm-function\[/.test(functionName) ? "guest" : "devices";
  }
  return url.includes("bench-guest") ? "devices" : "emulator";
}

/** What `work`, which `guest` does, asks of its devices (once), and where its time goes (once more). */
export async function account(guest: Guest, work: () => Promise<unknown>): Promise<Account> {
  const before = await interruptsOf(guest);
  const counted = count(guest);
  await work();
  const callbacks = counted();
  const interrupts = (await interruptsOf(guest)) - before;
  const session = new Session();
  session.connect();
  await session.post("Profiler.enable");
  await session.post("Profiler.setSamplingInterval", { interval: 200 });
  await session.post("Profiler.start");
  await work();
  const { profile } = await session.post("Profiler.stop");
  session.disconnect();
  const owners = new Map(profile.nodes.map(({ id, callFrame }) => [id, ownerOf(callFrame)]));
  const time = { guest: 0, emulator: 0, devices: 0, idle: 0 };
  for (const [i, id] of (profile.samples ?? []).entries()) time[owners.get(id)!] += profile.timeDeltas![i];
  return { callbacks, interrupts, ...time };
}
