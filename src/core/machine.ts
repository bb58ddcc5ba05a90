import type { AsyncCloseable } from "./dispose.ts";
import type { Later } from "./flow.ts";

/** Access width in bytes. */
export type Width = 1 | 2 | 4;

/**
 * Guest RAM inside a WebAssembly memory, so that the core reads rings and moves data there without JavaScript.
 * Guest-physical address p is at linear address `base + p`, for p < `size`.
 */
export interface GuestMemory {
  readonly wasm: WebAssembly.Memory;
  readonly base: number;
  readonly size: number;
  /** The whole linear memory, valid now; hold it no longer than the current turn, for growth detaches it. */
  readonly linear: Uint8Array;
  /**
   * Space for a device's private state, outside guest RAM: the linear address of `bytes` zeroed bytes.
   * @throws ParavaneError NO_SPACE
   */
  reserve(bytes: number, align?: number): number;
  /** To be called before RAM is written by a device, so that an emulator can drop translated code. Linear range. */
  touch(start: number, length: number): void;
}

/** A device's window in port space. `port` is absolute. Values are unsigned; never throws on guest input. */
export interface PortDevice {
  readPort(port: number, width: Width): number;
  writePort(port: number, width: Width, value: number): void;
  /** Of a window of one port that data streams through: what a machine may do instead of calling the two above. */
  readonly stream?: PortStream;
}

/**
 * The accesses of one port by width, for a machine that keeps a function for each port and binds these as methods; and runs
 * of accesses, for one that carries out string instructions (`rep insw`). To the device all ways are the same.
 */
export interface PortStream {
  read16(): number;
  read32(): number;
  write16(value: number): void;
  write32(value: number): void;
  /**
   * Makes up to `count` reads, into `bytes` from `at` on. How many it has made, which may be none: the next access is one to
   * be made by itself.
   */
  readRun(width: Width, count: number, bytes: Uint8Array, at: number): number;
  /** The same for writes, from `bytes`. */
  writeRun(width: Width, count: number, bytes: Uint8Array, at: number): number;
}

/** A device's window in memory space. `offset` is from the start of the window. */
export interface MmioDevice {
  readMmio(offset: number, width: Width): number;
  writeMmio(offset: number, width: Width, value: number): void;
}

/** Undoes a registration. Idempotent. */
export type Release = () => void;

export interface AddressSpace<D> {
  /** Claims [base, base + length). @throws ParavaneError EXISTS if any of it is taken */
  register(base: number, length: number, device: D): Release;
}

/** A level-triggered interrupt wire; several devices on one line are ORed by the machine. */
export interface InterruptLine {
  set(asserted: boolean): void;
}

export interface Clock {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Calls back once after at least `ms`. */
  after(ms: number, call: () => void): Release;
}

export interface IoBar {
  kind: "io";
  /** Bytes, a power of two, at least 4. */
  size: number;
  /** Where it starts out; the guest may move it. */
  base: number;
  device: PortDevice;
}
export interface MemoryBar {
  kind: "memory";
  /** Bytes, a power of two, at least 16. */
  size: number;
  base: number;
  device: MmioDevice;
}

/** A capability of which a guest may change bits, or whose last bytes the device answers for itself. */
export interface PciCapability {
  bytes: Uint8Array;
  /** Per byte, the bits a guest may change; none past its end. */
  writable?: Uint8Array;
  /** The registers from `from`, an offset into the capability, to its end. `offset` is from `from`. */
  live?: { from: number; device: PciRegisters };
}

/** Registers in configuration space; `capability` is what stands in theirs at the time. */
export interface PciRegisters {
  readConfig(capability: Uint8Array, offset: number, width: Width): number;
  writeConfig(capability: Uint8Array, offset: number, width: Width, value: number): void;
}

/** What a device says of itself to PCI (PCI 3.0 §6.1). */
export interface PciFunctionOptions {
  /** Device number 0–31; the first free one when absent. */
  slot?: number;
  vendor: number;
  device: number;
  /** Class, sub-class and programming interface: 0xCCSSPP. */
  classCode: number;
  revision?: number;
  subsystemVendor?: number;
  subsystem?: number;
  bars: (IoBar | MemoryBar | null)[];
  /** INTA# line; absent for a function that raises legacy lines of its own. */
  interrupt?: number;
  /** Vendor-specific or standard capabilities, each with its id in byte 0; the next pointer is filled in. */
  capabilities?: (Uint8Array | PciCapability)[];
  /** Device-specific configuration registers (from 40h on): what they hold at first, and the bits a guest may change. */
  registers?: { offset: number; bytes: readonly number[]; writable: readonly number[] }[];
}

export interface PciFunction {
  readonly slot: number;
  /** Command register bit 2: may this function reach guest memory? */
  readonly busMaster: boolean;
  /** The function's INTA#. */
  readonly interrupt: InterruptLine;
  detach(): void;
}

export interface PciBus {
  attach(options: PciFunctionOptions): PciFunction;
}

/** All a device model sees of the machine it is plugged into. Another emulator is one more implementation of this. */
export interface Machine {
  readonly memory: GuestMemory;
  readonly ports: AddressSpace<PortDevice>;
  readonly mmio: AddressSpace<MmioDevice>;
  readonly pci: PciBus;
  readonly clock: Clock;
  /** A new source on legacy line `line` (0–15). */
  interrupt(line: number): InterruptLine;
  /** Called at machine reset, until released. */
  onReset(call: () => void): Release;
}

/** A device plugged into a machine. */
export interface Device extends AsyncCloseable {
  /** Stops, finishes or cancels what is in flight, detaches. Does not close the block it was given. Idempotent. */
  close(): Later<void>;
}
