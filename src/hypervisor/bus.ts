import { ParavaneError } from "../core/error.ts";
import type { AddressSpace, MmioDevice, PortDevice, Release, Width } from "../core/machine.ts";
import type { InterruptController } from "./interrupts.ts";

/** How often the guest left its own code, by reason. This is what emulation costs. */
class ExitCounters {
  portReads = 0;
  portWrites = 0;
  mmioReads = 0;
  mmioWrites = 0;
  hypercalls = 0;

  get total(): number {
    return this.portReads + this.portWrites + this.mmioReads + this.mmioWrites + this.hypercalls;
  }
}

/**
 * Told of each exit when tracing; `address` is the port or the guest-physical address. A string shows as one access as wide
 * as all that it moves, `value` its count.
 */
export type ExitTrace = (
  kind: "in" | "out" | "load" | "store" | "hypercall",
  address: number,
  width: number,
  value: number,
) => void;

/** The trap: counts the exit, holds interrupts while the host works, delivers them on the way back to the guest. */
export class Trap {
  readonly exits = new ExitCounters();
  readonly interrupts: InterruptController;
  trace: ExitTrace | null = null;

  constructor(interrupts: InterruptController) {
    this.interrupts = interrupts;
  }
}

const ONES = [0, 0xff, 0xffff, 0, 0xffffffff];

/** The x86 I/O port space: 65,536 ports. A port nobody claims reads all ones and ignores writes. */
export class PortBus implements AddressSpace<PortDevice> {
  readonly #devices: (PortDevice | null)[] = new Array(65536).fill(null);
  readonly #trap: Trap;

  constructor(trap: Trap) {
    this.#trap = trap;
  }

  register(base: number, length: number, device: PortDevice): Release {
    for (let port = base; port < base + length; port++) {
      if (port > 0xffff || this.#devices[port]) {
        throw new ParavaneError("EXISTS", `port 0x${port.toString(16)} is taken or past the end of port space`, {
          offset: port,
        });
      }
    }
    this.#devices.fill(device, base, base + length);
    return () => {
      for (let port = base; port < base + length; port++)
        if (this.#devices[port] === device) this.#devices[port] = null;
    };
  }

  /** The guest's `in`. */
  read(port: number, width: Width): number {
    const trap = this.#trap;
    trap.exits.portReads++;
    trap.interrupts.hold();
    const device = this.#devices[port];
    const value = device ? device.readPort(port, width) : ONES[width];
    trap.trace?.("in", port, width, value);
    trap.interrupts.unhold();
    return value;
  }

  /** The guest's `out`. */
  write(port: number, width: Width, value: number): void {
    const trap = this.#trap;
    trap.exits.portWrites++;
    trap.interrupts.hold();
    trap.trace?.("out", port, width, value);
    this.#devices[port]?.writePort(port, width, value);
    trap.interrupts.unhold();
  }

  /** The guest's `rep ins`: as many reads of one port as fill `bytes`, in one exit. */
  readString(port: number, width: Width, bytes: Uint8Array): void {
    const trap = this.#trap;
    const count = Math.floor(bytes.length / width);
    trap.exits.portReads++;
    trap.interrupts.hold();
    const device = this.#devices[port];
    for (let i = 0; i < count; i++) {
      i += device?.stream?.readRun(width, count - i, bytes, i * width) ?? 0;
      if (i === count) break;
      const value = device ? device.readPort(port, width) : ONES[width];
      for (let byte = 0; byte < width; byte++) bytes[i * width + byte] = value >>> (8 * byte);
    }
    trap.trace?.("in", port, bytes.length, count);
    trap.interrupts.unhold();
  }

  /** The guest's `rep outs`. */
  writeString(port: number, width: Width, bytes: Uint8Array): void {
    const trap = this.#trap;
    const count = Math.floor(bytes.length / width);
    trap.exits.portWrites++;
    trap.interrupts.hold();
    trap.trace?.("out", port, bytes.length, count);
    const device = this.#devices[port];
    for (let i = 0; i < count; i++) {
      i += device?.stream?.writeRun(width, count - i, bytes, i * width) ?? 0;
      if (i === count) break;
      let value = 0;
      for (let byte = width - 1; byte >= 0; byte--) value = value * 256 + bytes[i * width + byte];
      device?.writePort(port, width, value);
    }
    trap.interrupts.unhold();
  }
}

interface Window {
  base: number;
  end: number;
  device: MmioDevice;
}

/** Memory-mapped devices above guest RAM. An address nobody claims reads all ones and ignores writes. */
export class MmioBus implements AddressSpace<MmioDevice> {
  readonly #windows: Window[] = [];
  readonly #trap: Trap;
  readonly #ramEnd: number;

  constructor(trap: Trap, ramEnd: number) {
    this.#trap = trap;
    this.#ramEnd = ramEnd;
  }

  register(base: number, length: number, device: MmioDevice): Release {
    const end = base + length;
    if (base < this.#ramEnd || end > 2 ** 32 || this.#windows.some((w) => base < w.end && w.base < end)) {
      throw new ParavaneError("EXISTS", "memory window is taken, inside guest RAM or past 4 GiB", {
        offset: base,
        length,
      });
    }
    const window = { base, end, device };
    this.#windows.push(window);
    return () => {
      const at = this.#windows.indexOf(window);
      if (at >= 0) this.#windows.splice(at, 1);
    };
  }

  read(address: number, width: Width): number {
    const trap = this.#trap;
    trap.exits.mmioReads++;
    trap.interrupts.hold();
    const window = this.#find(address);
    const value = window ? window.device.readMmio(address - window.base, width) : ONES[width];
    trap.trace?.("load", address, width, value);
    trap.interrupts.unhold();
    return value;
  }

  write(address: number, width: Width, value: number): void {
    const trap = this.#trap;
    trap.exits.mmioWrites++;
    trap.interrupts.hold();
    trap.trace?.("store", address, width, value);
    const window = this.#find(address);
    window?.device.writeMmio(address - window.base, width, value);
    trap.interrupts.unhold();
  }

  #find(address: number): Window | undefined {
    for (const window of this.#windows) if (address >= window.base && address < window.end) return window;
    return undefined;
  }
}
