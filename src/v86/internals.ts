import { ParavaneError } from "../core/error.ts";

/*
 * What is used of v86, whose package exports none of it: names as they are in its library build, which keeps property names.
 * Signatures after its src/{io,pci,cpu,rtc}.js; `checkInternals` says which of them is missing.
 */

/** A port: what `in` and `out` call, with `device` for `this`; reads are given the port. */
export interface V86Port {
  device: object | undefined;
  read8(port: number): number;
  read16(port: number): number;
  read32(port: number): number;
  write8(value: number): void;
  write16(value: number): void;
  write32(value: number): void;
}

export interface V86Io {
  readonly ports: V86Port[];
  create_empty_entry(): V86Port;
  readonly empty_port_write: (value: number) => void;
  readonly empty_port_read8: (port: number) => number;
  /** Address and size in blocks of 128 KiB. The functions get the address as a signed number. */
  mmap_register(
    address: number,
    size: number,
    read8: (address: number) => number,
    write8: (address: number, value: number) => void,
    read32: (address: number) => number,
    write32: (address: number, value: number) => void,
  ): void;
}

export interface V86Pci {
  /** Of configuration mechanism #1: the address register, and what a read of it will find. */
  readonly pci_addr: Uint8Array;
  readonly pci_status32: Int32Array;
  /** By bus, device and function. */
  readonly device_spaces: (Int32Array | undefined)[];
  readonly devices: (object | undefined)[];
  /** Configuration of the ISA bridge; bytes 60h to 63h say which line each of the four PCI interrupts goes to. */
  readonly isa_bridge_space8: Uint8Array;
  pci_query(): void;
  pci_write8(address: number, value: number): void;
  pci_write16(address: number, value: number): void;
  pci_write32(address: number, value: number): void;
}

export interface V86Cpu {
  readonly wasm_memory: WebAssembly.Memory;
  /** Guest RAM. A proxy that survives the memory's growth; only its place is looked at here. */
  readonly mem8: { readonly byteOffset: number; readonly length: number };
  /** EFLAGS, of which only the place is looked at too. */
  readonly flags: { readonly byteOffset: number };
  readonly io: V86Io;
  readonly devices: {
    readonly pci: V86Pci;
    readonly rtc: { cmos_read(index: number): number; cmos_write(index: number, value: number): void };
    readonly ide?: { primary?: V86IdeChannel; secondary?: V86IdeChannel };
    cdrom?: unknown;
  };
  /** By 128 KiB block; these four are what a memory access outside RAM calls. */
  readonly memory_map_read8: ((address: number) => number)[];
  readonly memory_map_write8: ((address: number, value: number) => void)[];
  readonly memory_map_read32: ((address: number) => number)[];
  readonly memory_map_write32: ((address: number, value: number) => void)[];
  mmap_write16(address: number, value: number): void;
  /** Drops code translated from guest-physical [start, end). */
  jit_dirty_cache(start: number, end: number): void;
  device_raise_irq(line: number): void;
  device_lower_irq(line: number): void;
  reboot_internal(): void;
  get_state(): unknown[];
  set_state(state: unknown[]): void;
}

interface V86IdeChannel {
  master?: { buffer?: unknown };
  slave?: { buffer?: unknown };
}

/** An instance of the class that v86's package exports. */
export interface V86Emulator {
  add_listener(event: "emulator-ready", listener: () => void): void;
  remove_listener(event: "emulator-ready", listener: () => void): void;
}

/** The version that this was written and tested with. */
const TESTED = "0.5.462";

const CPU_FUNCTIONS = [
  "jit_dirty_cache",
  "device_raise_irq",
  "device_lower_irq",
  "reboot_internal",
  "get_state",
  "set_state",
  "mmap_write16",
];
const CPU_ARRAYS = ["memory_map_read8", "memory_map_write8", "memory_map_read32", "memory_map_write32"];
const PCI_FUNCTIONS = ["pci_query", "pci_write8", "pci_write16", "pci_write32"];
const PCI_ARRAYS = ["pci_addr", "pci_status32", "device_spaces", "devices", "isa_bridge_space8"];

type Unknown = Record<string, unknown>;

/** The emulator's CPU, once it exists: that is, from its event `emulator-ready` on. */
export function cpuOf(emulator: V86Emulator): V86Cpu | undefined {
  const cpu = (emulator as { v86?: { cpu?: V86Cpu } }).v86?.cpu;
  return cpu?.io && cpu.devices?.pci ? cpu : undefined;
}

/** @throws ParavaneError UNSUPPORTED naming what this v86 does not have */
export function checkInternals(cpu: V86Cpu | undefined): asserts cpu is V86Cpu {
  const missing: string[] = [];
  const want = (of: unknown, path: string, names: readonly string[], ok: (value: unknown) => boolean) => {
    for (const name of names) if (!ok((of as Unknown | undefined)?.[name])) missing.push(`${path}.${name}`);
  };
  const isFunction = (value: unknown) => typeof value === "function";
  const isList = (value: unknown) => typeof (value as ArrayLike<unknown> | undefined)?.length === "number";
  const isPlace = (value: unknown) => typeof (value as Uint8Array | undefined)?.byteOffset === "number";
  want(cpu, "cpu", CPU_FUNCTIONS, isFunction);
  want(cpu, "cpu", CPU_ARRAYS, isList);
  want(cpu, "cpu", ["mem8", "flags"], isPlace);
  want(cpu, "cpu", ["wasm_memory"], (value) => value instanceof WebAssembly.Memory);
  want(cpu?.io, "cpu.io", ["create_empty_entry", "mmap_register", "empty_port_write", "empty_port_read8"], isFunction);
  want(cpu?.io, "cpu.io", ["ports"], (value) => isList(value) && (value as unknown[]).length === 65536);
  want(cpu?.devices?.pci, "cpu.devices.pci", PCI_FUNCTIONS, isFunction);
  want(cpu?.devices?.pci, "cpu.devices.pci", PCI_ARRAYS, isList);
  want(cpu?.devices?.rtc, "cpu.devices.rtc", ["cmos_read", "cmos_write"], isFunction);
  if (missing.length === 0) return;
  throw new ParavaneError(
    "UNSUPPORTED",
    `this version of v86 does not have ${missing.join(", ")}, which its disks need`,
    { missing },
    { hint: `Use v86 ${TESTED}, or a version of Paravane made for yours` },
  );
}
