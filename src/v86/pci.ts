import { ParavaneError } from "../core/error.ts";
import type { PciBus, PciFunction, PciFunctionOptions, Width } from "../core/machine.ts";
import { ConfiguredFunction, type PciSpaces } from "../hypervisor/pci.ts";
import type { V86Pci, V86Port } from "./internals.ts";
import type { RoutedLine, V86Interrupts } from "./interrupts.ts";

/** Device numbers that v86 gives to none of its own devices. */
const FREE_SLOTS = [0x08, 0x09, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b];
/** 82371SB data sheet §2.2.5, PIRQRC[A:D]: the line of each PCI interrupt, of which bit 7 disconnects it. */
const ROUTES = 0x60;

/** PCI 3.0 §3.2.2.3.2, CONFIG_DATA: four ports. */
const DATA = 0xcfc;

/** What v86 has instead of ours in `attach`. */
type Accesses = Pick<V86Pci, "pci_query" | "pci_write8" | "pci_write16" | "pci_write32">;

/**
 * v86's PCI bus. Accesses to functions of ours are answered here, with their BARs wherever the guest puts them; all others are
 * v86's own, as before.
 */
export class V86PciBus implements PciBus {
  readonly #pci: V86Pci;
  readonly #spaces: PciSpaces;
  readonly #interrupts: V86Interrupts;
  readonly #repair: () => void;
  readonly #original: Accesses;
  /** Puts v86's own reads of CONFIG_DATA back. */
  readonly #leaveData: () => void;
  /** By device number; only function 0, as v86 has it. */
  readonly #functions = new Map<number, { function: ConfiguredFunction; line: RoutedLine | null }>();

  /** `ports` are v86's. `repair`: to be called when v86 has moved a window of its own. */
  constructor(
    pci: V86Pci,
    ports: readonly V86Port[],
    spaces: PciSpaces,
    interrupts: V86Interrupts,
    repair: () => void,
  ) {
    this.#pci = pci;
    this.#spaces = spaces;
    this.#interrupts = interrupts;
    this.#repair = repair;
    const { pci_query, pci_write8, pci_write16, pci_write32 } = pci;
    this.#original = { pci_query, pci_write8, pci_write16, pci_write32 };
    pci.pci_query = () => this.#query();
    pci.pci_write8 = (address, value) => this.#write(address, 1, value, pci_write8);
    pci.pci_write16 = (address, value) => this.#write(address, 2, value, pci_write16);
    pci.pci_write32 = (address, value) => this.#write(address, 4, value, pci_write32);
    const leaving = [0, 1, 2, 3].map((byte) => this.#takeData(ports[DATA + byte], byte));
    this.#leaveData = () => {
      for (const leave of leaving) leave();
    };
  }

  attach(options: PciFunctionOptions): PciFunction {
    const slot = options.slot ?? FREE_SLOTS.find((each) => this.#isFree(each)) ?? -1;
    if (!this.#isFree(slot)) {
      throw new ParavaneError("EXISTS", `PCI device number ${slot} is taken or does not exist`, { slot });
    }
    // Which line INTA# leads to is the router's matter, not the caller's: device numbers are spread over the four.
    const { isa_bridge_space8 } = this.#pci;
    const route = () => isa_bridge_space8[ROUTES + ((slot - 1) & 3)];
    const line = options.interrupt === undefined ? null : this.#interrupts.source(route);
    const made = new ConfiguredFunction(this.#spaces, slot, options, line ?? { set() {} }, () => {
      this.#functions.delete(slot);
    });
    this.#functions.set(slot, { function: made, line });
    return made;
  }

  /** Takes a device of v86's off the bus. */
  remove(slot: number): void {
    this.#pci.devices[slot << 3] = undefined;
    this.#pci.device_spaces[slot << 3] = undefined;
  }

  reset(): void {
    for (const { function: each } of this.#functions.values()) each.reset();
  }

  save(): Record<string, number[]> {
    return Object.fromEntries([...this.#functions].map(([slot, { function: each }]) => [slot, each.save()]));
  }

  /** @throws ParavaneError INVALID when other functions were saved */
  restore(saved: Record<string, number[]>): void {
    for (const [slot, { function: each }] of this.#functions) {
      const bytes = saved[slot];
      if (!bytes) throw new ParavaneError("INVALID", `nothing was saved of the PCI function in slot ${slot}`, { slot });
      each.restore(bytes);
    }
    this.#reroute();
  }

  detach(): void {
    Object.assign(this.#pci, this.#original);
    this.#leaveData();
  }

  #isFree(slot: number): boolean {
    return slot > 0 && slot < 32 && !this.#functions.has(slot) && this.#pci.device_spaces[slot << 3] === undefined;
  }

  /** `bdf`: bus in bits 15 to 8, device 7 to 3, function 2 to 0. */
  #at(bdf: number): ConfiguredFunction | undefined {
    return (bdf & 0xff07) === 0 ? this.#functions.get(bdf >>> 3)?.function : undefined;
  }

  /** The function that CONFIG_ADDRESS names, if it is one of ours. */
  get #selected(): ConfiguredFunction | undefined {
    const { pci_addr } = this.#pci;
    return this.#at((pci_addr[2] << 8) | pci_addr[1]);
  }

  /** v86 reads a register when it is selected. Of ours none is read by that: a read may have effects, and a width. */
  #query(): void {
    const { pci_status32 } = this.#pci;
    if (this.#selected) pci_status32[0] = 0x80000000 | 0;
    else this.#original.pci_query.call(this.#pci);
  }

  /** Has reads of one of CONFIG_DATA's ports answered by the function that is selected. Returns what undoes it. */
  #takeData(entry: V86Port, byte: number): () => void {
    const { read8, read16, read32 } = entry;
    const read = (width: Width, original: (port: number) => number) => (port: number) => {
      const found = this.#selected;
      if (!found) return original.call(this.#pci, port);
      // v86 wants a signed number, no wider than it has asked for.
      return found.read((this.#pci.pci_addr[0] & 0xfc) + byte, width) & (2 ** (8 * width) - 1);
    };
    Object.assign(entry, { read8: read(1, read8), read16: read(2, read16), read32: read(4, read32) });
    return () => Object.assign(entry, { read8, read16, read32 });
  }

  #write(address: number, width: Width, value: number, original: (address: number, value: number) => void): void {
    const bdf = (address >>> 8) & 0xffff;
    const found = this.#at(bdf);
    if (found) found.write(address & 0xff, width, value >>> 0);
    else if (this.#pci.device_spaces[bdf]) {
      original.call(this.#pci, address, value);
      this.#repair();
      this.#reroute();
    }
  }

  #reroute(): void {
    for (const { line } of this.#functions.values()) line?.reroute();
  }
}
