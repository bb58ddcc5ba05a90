import { PciCommand, PciConfig, PciPort, PciStatus } from "../../assembly/spec/pci.ts";
import { ParavaneError } from "../core/error.ts";
import type {
  InterruptLine,
  IoBar,
  Machine,
  MemoryBar,
  PciBus,
  PciCapability,
  PciFunction,
  PciFunctionOptions,
  PciRegisters,
  PortDevice,
  Release,
  Width,
} from "../core/machine.ts";

/**
 * One PCI bus behind configuration mechanism #1: 32 single-function devices. Device 0 is the host bridge, so that a
 * guest's probe finds the bus.
 */
export class LabPciBus implements PciBus, PortDevice {
  readonly #machine: Machine;
  readonly #functions: (ConfiguredFunction | undefined)[] = new Array(32).fill(undefined);
  #address = 0;

  constructor(machine: Machine) {
    this.#machine = machine;
    machine.ports.register(PciPort.Address, 8, this);
    // 8086:1237, the 440FX that every PIIX-era guest knows.
    this.attach({ slot: 0, vendor: 0x8086, device: 0x1237, classCode: 0x060000, bars: [] });
  }

  attach(options: PciFunctionOptions): PciFunction {
    const slot = options.slot ?? this.#functions.indexOf(undefined);
    if (slot < 0 || slot > 31 || this.#functions[slot]) {
      throw new ParavaneError("EXISTS", `PCI device number ${slot} is taken or does not exist`, { slot });
    }
    const line = options.interrupt === undefined ? { set() {} } : this.#machine.interrupt(options.interrupt);
    const f = new ConfiguredFunction(this.#machine, slot, options, line, () => {
      this.#functions[slot] = undefined;
    });
    this.#functions[slot] = f;
    return f;
  }

  readPort(port: number, width: Width): number {
    if (port < PciPort.Data) return port === PciPort.Address && width === 4 ? this.#address : mask(width);
    const f = this.#selected();
    return f ? f.read((this.#address & 0xfc) + (port & 3), width) : mask(width);
  }

  writePort(port: number, width: Width, value: number): void {
    if (port < PciPort.Data) {
      if (port === PciPort.Address && width === 4) this.#address = (value & 0x80fffffc) >>> 0;
      return;
    }
    this.#selected()?.write((this.#address & 0xfc) + (port & 3), width, value);
  }

  /** Address register: enable 31, bus 23–16, device 15–11, function 10–8, register 7–2. Only bus 0, function 0 exist. */
  #selected(): ConfiguredFunction | undefined {
    if (this.#address >>> 31 === 0 || (this.#address & 0x00ff0700) !== 0) return undefined;
    return this.#functions[(this.#address >>> 11) & 31];
  }
}

function mask(width: Width): number {
  return width === 4 ? 0xffffffff : width === 2 ? 0xffff : 0xff;
}

/** Registers that a device answers for, [from, end) of configuration space, in a capability that reads `bytes`. */
interface LiveRegisters {
  from: number;
  end: number;
  bytes: Uint8Array;
  device: PciRegisters;
}

/** The two address spaces that a function's BARs claim windows in. */
export type PciSpaces = Pick<Machine, "ports" | "mmio">;

/** One function's configuration space as the guest sees it, its BARs mapped where the guest has put them. */
export class ConfiguredFunction implements PciFunction {
  readonly slot: number;
  readonly interrupt: InterruptLine;
  readonly #machine: PciSpaces;
  readonly #line: InterruptLine;
  readonly #config = new Uint8Array(256);
  /** Per byte, the bits a guest may change. BARs are handled apart. */
  readonly #writable = new Uint8Array(256);
  readonly #bars: (IoBar | MemoryBar | null)[];
  readonly #mapped: (Release | null)[] = [];
  readonly #removed: () => void;
  readonly #live: LiveRegisters[] = [];
  /** The configuration after power-on. */
  readonly #initial: Uint8Array;

  constructor(machine: PciSpaces, slot: number, options: PciFunctionOptions, line: InterruptLine, removed: () => void) {
    this.#machine = machine;
    this.slot = slot;
    this.#line = line;
    this.#bars = options.bars;
    this.#removed = removed;
    const c = this.#config;
    put16(c, PciConfig.VendorId, options.vendor);
    put16(c, PciConfig.DeviceId, options.device);
    c[PciConfig.RevisionId] = options.revision ?? 0;
    c[PciConfig.ClassCode] = options.classCode;
    put16(c, PciConfig.ClassCode + 1, options.classCode >>> 8);
    put16(c, PciConfig.SubsystemVendorId, options.subsystemVendor ?? 0);
    put16(c, PciConfig.SubsystemId, options.subsystem ?? 0);
    if (options.interrupt !== undefined) {
      c[PciConfig.InterruptLine] = options.interrupt;
      c[PciConfig.InterruptPin] = 1;
    }
    put16(this.#writable, PciConfig.Command, PciCommand.Writable);
    this.#writable[PciConfig.CacheLineSize] = 0xff;
    this.#writable[PciConfig.LatencyTimer] = 0xff;
    this.#writable[PciConfig.InterruptLine] = 0xff;
    options.bars.forEach((bar, i) => {
      if (bar) put32(c, PciConfig.Bar0 + i * 4, bar.base | (bar.kind === "io" ? 1 : 0));
    });
    for (const { offset, bytes, writable } of options.registers ?? []) {
      c.set(bytes, offset);
      this.#writable.set(writable, offset);
    }
    this.#chain(options.capabilities ?? []);
    this.interrupt = {
      set: (asserted) => {
        c[PciConfig.Status] = (c[PciConfig.Status] & ~PciStatus.Interrupt) | (asserted ? PciStatus.Interrupt : 0);
        this.#drive();
      },
    };
    // The firmware's part: decode and mastering on, as a guest expects to find them.
    if (options.bars.length > 0) this.write(PciConfig.Command, 2, PciCommand.IoSpace | PciCommand.MemorySpace);
    this.#initial = c.slice();
  }

  /** The reset wire: the configuration as after power-on. The device itself says what becomes of its interrupt. */
  reset(): void {
    this.#load(this.#initial);
  }

  /** The 256 bytes of the configuration space. */
  save(): number[] {
    return Array.from(this.#config);
  }

  /** @throws ParavaneError INVALID when they are another function's */
  restore(bytes: readonly number[]): void {
    const identity = [0, 1, 2, 3];
    if (bytes.length !== 256 || identity.some((at) => bytes[at] !== this.#config[at])) {
      throw new ParavaneError("INVALID", `what was saved is not the PCI function in slot ${this.slot}`, {
        slot: this.slot,
      });
    }
    this.#load(bytes);
  }

  #load(bytes: ArrayLike<number>): void {
    const pending = this.#config[PciConfig.Status] & PciStatus.Interrupt;
    this.#config.set(bytes);
    this.#config[PciConfig.Status] = (this.#config[PciConfig.Status] & ~PciStatus.Interrupt) | pending;
    this.#map(this.#command);
    this.#drive();
  }

  get busMaster(): boolean {
    return (this.#command & PciCommand.BusMaster) !== 0;
  }

  get #command(): number {
    return this.#config[PciConfig.Command] | (this.#config[PciConfig.Command + 1] << 8);
  }

  detach(): void {
    this.interrupt.set(false);
    this.#map(0);
    this.#removed();
  }

  read(register: number, width: Width): number {
    const live = this.#liveAt(register);
    if (live) return live.device.readConfig(live.bytes, register - live.from, width);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + (this.#config[register + i] ?? 0xff);
    return value;
  }

  write(register: number, width: Width, value: number): void {
    const live = this.#liveAt(register);
    if (live) {
      live.device.writeConfig(live.bytes, register - live.from, width, value);
      return;
    }
    const bar = (register - PciConfig.Bar0) >> 2;
    const isBar = register >= PciConfig.Bar0 && bar < 6;
    for (let i = 0; i < width && register + i < 256; i++) {
      const at = register + i;
      const keep = isBar ? this.#barKeeps(bar, at & 3) : this.#writable[at];
      this.#config[at] = (this.#config[at] & ~keep) | ((value >>> (8 * i)) & keep);
    }
    if (isBar || register <= PciConfig.Command + 1) this.#map(this.#command);
    if (register <= PciConfig.Command + 1) this.#drive();
  }

  #liveAt(register: number): LiveRegisters | undefined {
    return this.#live.find(({ from, end }) => register >= from && register < end);
  }

  /** INTA# follows Interrupt Status (§6.2.3) unless the guest has disabled it (§6.2.2). */
  #drive(): void {
    const asserted = (this.#config[PciConfig.Status] & PciStatus.Interrupt) !== 0;
    this.#line.set(asserted && (this.#command & PciCommand.InterruptDisable) === 0);
  }

  /** Sizing (§6.2.5.1): the low bits of a BAR, up to its size, stay as they are. */
  #barKeeps(bar: number, byte: number): number {
    const spec = this.#bars[bar];
    return spec ? (~(spec.size - 1) >>> (8 * byte)) & 0xff : 0;
  }

  #map(command: number): void {
    this.#bars.forEach((bar, i) => {
      this.#mapped[i]?.();
      this.#mapped[i] = null;
      if (!bar) return;
      const base = (this.read(PciConfig.Bar0 + i * 4, 4) & ~(bar.size - 1)) >>> 0;
      const decoding = command & (bar.kind === "io" ? PciCommand.IoSpace : PciCommand.MemorySpace);
      // A base of zero, or all ones while the guest sizes the BAR, claims nothing; nor does an overlap, as on a real bus.
      if (!decoding || base === 0) return;
      try {
        this.#mapped[i] =
          bar.kind === "io"
            ? this.#machine.ports.register(base, bar.size, moved(bar, base))
            : this.#machine.mmio.register(base, bar.size, bar.device);
      } catch (error) {
        if (!(error instanceof ParavaneError)) throw error;
      }
    });
  }

  #chain(capabilities: (Uint8Array | PciCapability)[]): void {
    let at = 0x40;
    let link: number = PciConfig.CapabilitiesPointer;
    for (const each of capabilities) {
      const { bytes, writable, live }: PciCapability = each instanceof Uint8Array ? { bytes: each } : each;
      const end = at + bytes.length;
      this.#config.set(bytes, at);
      if (writable) this.#writable.set(writable, at);
      if (live)
        this.#live.push({ from: at + live.from, end, bytes: this.#config.subarray(at, end), device: live.device });
      this.#config[link] = at;
      link = at + 1;
      at = (end + 3) & ~3;
      this.#config[PciConfig.Status] |= PciStatus.CapabilitiesList;
    }
    this.#config[link] = 0;
  }
}

/** A port device always sees the ports it was made for, wherever the guest has moved its BAR. */
function moved(bar: IoBar, base: number): PortDevice {
  if (base === bar.base) return bar.device;
  const delta = bar.base - base;
  return {
    readPort: (port, width) => bar.device.readPort(port + delta, width),
    writePort: (port, width, value) => bar.device.writePort(port + delta, width, value),
  };
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}
function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, value);
  put16(bytes, at + 2, value >>> 16);
}
