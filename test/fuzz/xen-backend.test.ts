import { expect, test } from "vitest";
import { Sring, XenbusState } from "../../assembly/spec/xen.ts";
import type { ParavaneError } from "../../src/core/error.ts";
import { connectBlkfront } from "../../src/guest/blkfront.ts";
import { attachBlkback, type Blkback } from "../../src/host/device/blkback.ts";
import { Hypervisor } from "../../src/hypervisor/hypervisor.ts";
import type { LabMachine } from "../../src/hypervisor/machine.ts";
import type { XenGuest } from "../../src/hypervisor/xen/guest.ts";
import { FakeBlock } from "../support/fake-block.ts";
import { roundTrip } from "../support/xen.ts";

const STEPS = 60_000;
const SEED = Number(process.env.FUZZ_SEED ?? 20240608);

/** xorshift32. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/**
 * A guest that says anything in its part of the store and on its ring, beside a well-behaved one whose disk must not
 * notice. Whatever it does, no exception comes out of the back end, and the back end ends in a state of the protocol.
 */
class Hostile {
  readonly counts = new Map<string, number>();
  readonly hypervisor = new Hypervisor();
  readonly machine: LabMachine = this.hypervisor.createMachine({ memory: 64 << 20, hostMemory: 16 << 20 });
  readonly block: FakeBlock;
  readonly device: Blkback;
  readonly #pick = random(SEED);
  #guest: XenGuest;
  #ring = 0;
  #ref = 0;
  #ports: number[] = [];
  #seen: XenbusState = XenbusState.Unknown;
  #error: ParavaneError | null = null;

  constructor(manual: boolean) {
    this.block = new FakeBlock(1 << 20, { manual });
    this.device = attachBlkback(this.hypervisor, this.machine, this.block, { maxRingPageOrder: 2 });
    this.#guest = this.#boot();
  }

  async step(): Promise<void> {
    const pick = this.#pick;
    switch (pick(10)) {
      case 0:
        if (pick(6) === 0) this.#say("state", [1, 3, 3, 4, 5, 6, pick(12), "x"][pick(8)]);
        break;
      case 1:
        if (pick(3) === 0) this.#node();
        break;
      case 2:
        if (pick(4) === 0) this.#sane();
        break;
      case 3:
        if (pick(4) === 0) this.#grant(pick(40) + this.#ref);
        break;
      case 4:
      case 5:
      case 6:
        this.#scribble();
        break;
      case 7:
        if (this.#ports.length > 0) this.#guest.events.send(this.#ports[pick(this.#ports.length)]);
        break;
      case 8:
        await this.block.release(pick(3));
        break;
      default:
        if (pick(200) === 0) {
          this.machine.reset();
          this.#count("reset");
          this.#guest = this.#boot();
        }
    }
    this.#look();
  }

  #boot(): XenGuest {
    // A rebooted guest's memory starts over.
    const guest = this.hypervisor.xenGuest(this.machine);
    const { ram } = this.machine.guest;
    this.#ring ||= ram.allocate(4);
    this.#ref = guest.grants.allocate(64);
    this.#ports = Array.from({ length: 4 }, () => guest.events.allocUnbound(0, () => this.#count("notified")));
    return guest;
  }

  #say(key: string, value: string | number): void {
    this.#guest.store.write(`device/vbd/51712/${key}`, value);
  }

  #node(): void {
    const pick = this.#pick;
    const key = ["ring-ref", "ring-ref0", "ring-ref1", "event-channel", "ring-page-order", "protocol"][pick(6)];
    const words = ["x86_64-abi", "x86_32-abi", "arm-abi", "", "-1", "1e9", "99999999999999999999", "0x10"];
    const value = [this.#ref + pick(70), pick(0xffffffff), this.#ports[pick(4)] ?? 0, words[pick(8)], pick(6)][pick(5)];
    if (pick(12) === 0) this.#guest.store.remove(`device/vbd/51712/${key}`);
    else this.#say(key, value);
  }

  /** What a decent front end would say, so that rings get connected. */
  #sane(): void {
    const pick = this.#pick;
    const order = pick(3);
    const { ram } = this.machine.guest;
    ram.bytes(this.#ring, 4 * 4096).fill(0);
    for (let page = 0; page < 4; page++) {
      this.#guest.grants.grant(this.#ref + page, 0, this.#ring + page * 4096, false);
      this.#say(`ring-ref${page}`, this.#ref + page);
    }
    for (let ref = 4; ref < 40; ref++) this.#guest.grants.grant(this.#ref + ref, 0, 0x200000 + ref * 4096, false);
    this.#guest.store.remove("device/vbd/51712/ring-ref");
    this.#say("ring-page-order", order);
    this.#guest.events.close(this.#ports[0]);
    this.#ports[0] = this.#guest.events.allocUnbound(0, () => this.#count("notified"));
    this.#say("event-channel", this.#ports[0]);
    this.#say("protocol", pick(2) === 0 ? "x86_64-abi" : "x86_32-abi");
    this.#say("state", XenbusState.Closed);
    this.#say("state", XenbusState.Initialising);
    this.#say("state", XenbusState.Initialised);
  }

  #grant(ref: number): void {
    const pick = this.#pick;
    const entry = this.#guest.grants.address + ref * 8;
    this.machine.guest.ram.write32(entry + 4, pick(5) === 0 ? pick(0xffffffff) : 256 + pick(256));
    this.machine.guest.ram.write32(entry, pick(5) === 0 ? pick(0xffffffff) : 1 + pick(2) * 4);
  }

  /** Requests of a kind, then the producer index, mostly just past them. */
  #scribble(): void {
    const pick = this.#pick;
    const { ram } = this.machine.guest;
    const produced = ram.read32(this.#ring + Sring.ReqProd);
    const slot = this.#ring + 64 + (produced % 32) * 112;
    const words = new Uint32Array(28).map(() => (pick(8) === 0 ? pick(0xffffffff) : 0));
    words[0] = [0, 1, 2, 3, 5, 6][pick(6)] | (pick(3) << 8);
    if (pick(4) === 0) words[4] = pick(4096);
    for (let i = 0; i < 3; i++) words.set([this.#ref + 4 + pick(pick(20) === 0 ? 60 : 36), 0x0700], 6 + i * 2);
    if ((words[0] & 0xff) === 5) words.set([pick(16), 0], 6); // a discard of a few sectors
    words.forEach((word, i) => {
      ram.write32(slot + i * 4, word);
    });
    ram.write32(this.#ring + Sring.RspEvent, ram.read32(this.#ring + Sring.RspProd) + 1);
    const next = pick(100) === 0 ? pick(0xffffffff) : produced + 1 + (pick(30) === 0 ? pick(64) : 0);
    ram.write32(this.#ring + Sring.ReqProd, next >>> 0);
  }

  /** What has happened. */
  #look(): void {
    const { state, error } = this.device;
    if (state !== this.#seen) this.#count(XenbusStateNames[state]);
    this.#seen = state;
    if (error && error !== this.#error) this.#count(error.message.replace(/\S*\d\S*/g, "…").replace(/^\S+\/\S+ /, ""));
    this.#error = error;
  }

  #count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}

const XenbusStateNames = ["Unknown", "Initialising", "InitWait", "Initialised", "Connected", "Closing", "Closed"];

test.each([false, true])(`${STEPS} steps of a guest that says anything (asynchronous disk: %s)`, async (manual) => {
  const hostile = new Hostile(manual);
  const machine = hostile.hypervisor.createMachine({ memory: 4 << 20 });
  attachBlkback(hostile.hypervisor, machine, new FakeBlock(1 << 20));
  const neighbour = connectBlkfront(hostile.hypervisor.xenGuest(machine));
  for (let step = 1; step <= STEPS; step++) {
    try {
      await hostile.step();
      if (step % 1000 === 0) roundTrip(machine, neighbour, (step % 64) * 4096);
    } catch (thrown) {
      throw new Error(`step ${step} of seed ${SEED}`, { cause: thrown });
    }
  }
  while (hostile.block.waiting > 0) await hostile.block.release();
  await hostile.device.close();
  const ops = [0, 0, 0, 0];
  for (const { op } of hostile.block.asked) ops[op]++;
  console.log(`xen back end, ${STEPS} steps, seed ${SEED}:`, { ...Object.fromEntries(hostile.counts), ops });
  const reached = ["InitWait", "Connected", "Closed", "reset", "notified", ...(manual ? ["Closing"] : [])];
  const refused = [
    "the guest's request index promises more than the ring can hold",
    "the front end asks for an unknown ring protocol",
  ];
  for (const outcome of [...reached, ...refused]) expect(hostile.counts.get(outcome), outcome).toBeGreaterThan(0);
  for (const count of ops) expect(count).toBeGreaterThan(0);
});
