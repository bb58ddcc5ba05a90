import type { AddressSpace, PortDevice, PortStream, Release, Width } from "../../src/core/machine.ts";

type Read = (this: object) => number;
type Write = (this: object, value: number) => void;

class Port {
  device: object = this;
  read8: Read = () => 0xff;
  read16: Read = () => 0xffff;
  read32: Read = () => 0xffffffff;
  write8: Write = () => {};
  write16: Write = () => {};
  write32: Write = () => {};
}

/** The port bus that both controllers are plugged into: a table of functions, as v86's own is (its src/io.js). */
export class Ports implements AddressSpace<PortDevice> {
  readonly #ports = Array.from({ length: 65536 }, () => new Port());
  readonly #streams = new Map<number, PortStream>();

  // --- what a driver calls -------------------------------------------------------------------------------------------------

  in8(port: number): number {
    const entry = this.#ports[port];
    return entry.read8.call(entry.device);
  }
  in16(port: number): number {
    const entry = this.#ports[port];
    return entry.read16.call(entry.device);
  }
  out8(port: number, value: number): void {
    const entry = this.#ports[port];
    entry.write8.call(entry.device, value);
  }
  out16(port: number, value: number): void {
    const entry = this.#ports[port];
    entry.write16.call(entry.device, value);
  }
  out32(port: number, value: number): void {
    const entry = this.#ports[port];
    entry.write32.call(entry.device, value);
  }

  /** `rep insw`, as v86's processor carries it out: word by word, unless the device does runs of them. */
  insw(port: number, bytes: Uint8Array): void {
    const count = bytes.length / 2;
    for (let i = 0; i < count; i++) {
      i += this.#streams.get(port)?.readRun(2, count - i, bytes, i * 2) ?? 0;
      if (i === count) break;
      const word = this.in16(port);
      bytes[i * 2] = word;
      bytes[i * 2 + 1] = word >>> 8;
    }
  }

  // --- what our controller calls -------------------------------------------------------------------------------------------

  register(base: number, length: number, device: PortDevice): Release {
    for (let port = base; port < base + length; port++) {
      const read = (width: Width) => () => device.readPort(port, width);
      const write = (width: Width) => (value: number) => device.writePort(port, width, value >>> 0);
      const functions = { read8: read(1), read16: read(2), read32: read(4) };
      Object.assign(this.#ports[port], functions, { write8: write(1), write16: write(2), write32: write(4) });
      if (device.stream) {
        this.#streams.set(port, device.stream);
        const { read16, read32, write16, write32 } = device.stream;
        this.#set(port, device.stream, { read16, read32, write16, write32 });
      }
    }
    return () => {};
  }

  // --- what v86's calls ----------------------------------------------------------------------------------------------------

  register_read(port: number, device: object, read8?: Read, read16?: Read, read32?: Read): void {
    this.#set(port, device, { read8, read16, read32 });
  }
  register_write(port: number, device: object, write8?: Write, write16?: Write, write32?: Write): void {
    this.#set(port, device, { write8, write16, write32 });
  }
  register_read_consecutive(port: number, device: object, ...reads: Read[]): void {
    reads.forEach((read8, i) => {
      this.#set(port + i, device, { read8 });
    });
  }
  register_write_consecutive(port: number, device: object, ...writes: Write[]): void {
    writes.forEach((write8, i) => {
      this.#set(port + i, device, { write8 });
    });
  }
  #set(port: number, device: object, functions: object): void {
    const given = Object.entries(functions).filter(([, value]) => value !== undefined);
    Object.assign(this.#ports[port], { device }, Object.fromEntries(given));
  }
}
