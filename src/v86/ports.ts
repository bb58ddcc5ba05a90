import { ParavaneError } from "../core/error.ts";
import type { AddressSpace, PortDevice, Release, Width } from "../core/machine.ts";
import type { V86Io, V86Port } from "./internals.ts";

/** v86's port space. Entries of ours keep what they replaced, for their release. */
export class V86Ports implements AddressSpace<PortDevice> {
  readonly #io: V86Io;
  readonly #ours = new Map<number, { entry: V86Port; before: V86Port }>();

  constructor(io: V86Io) {
    this.#io = io;
  }

  register(base: number, length: number, device: PortDevice): Release {
    this.#check(base, length, (port) => this.#ours.has(port) || !this.#isFree(port));
    return this.#claim(base, length, device);
  }

  /**
   * The same, but over what v86 has there: firmware gives out addresses one function after the other, and what is in the way
   * at that moment is about to be moved.
   */
  readonly forBars: AddressSpace<PortDevice> = {
    register: (base, length, device) => {
      this.#check(base, length, (port) => this.#ours.has(port));
      return this.#claim(base, length, device);
    },
  };

  /** Frees ports of a device of v86's that is being replaced. */
  clear(base: number, length: number): void {
    for (let port = base; port < base + length; port++) this.#io.ports[port] = this.#io.create_empty_entry();
  }

  /** v86 moves its own devices' windows as though the ports behind were nobody else's: puts ours back where they were. */
  repair(): void {
    const { ports } = this.#io;
    for (const [port, ours] of this.#ours) {
      if (ports[port] === ours.entry) continue;
      ours.before = ports[port];
      ports[port] = ours.entry;
    }
  }

  #isFree(port: number): boolean {
    const { write8, read8 } = this.#io.ports[port];
    return write8 === this.#io.empty_port_write && read8 === this.#io.empty_port_read8;
  }

  #check(base: number, length: number, taken: (port: number) => boolean): void {
    for (let port = base; port < base + length; port++) {
      if (port <= 0xffff && !taken(port)) continue;
      throw new ParavaneError("EXISTS", `port 0x${port.toString(16)} is taken or past the end of port space`, {
        offset: port,
      });
    }
  }

  #claim(base: number, length: number, device: PortDevice): Release {
    const { ports } = this.#io;
    const mine: [number, V86Port][] = [];
    for (let port = base; port < base + length; port++) {
      const entry = entryOf(device, port);
      this.#ours.set(port, { entry, before: ports[port] });
      ports[port] = entry;
      mine.push([port, entry]);
    }
    return () => {
      for (const [port, entry] of mine.splice(0)) {
        const before = this.#ours.get(port)?.before;
        this.#ours.delete(port);
        if (ports[port] === entry) ports[port] = before ?? this.#io.create_empty_entry();
      }
    };
  }
}

function entryOf(device: PortDevice, port: number): V86Port {
  const read = (width: Width) => () => device.readPort(port, width);
  const write = (width: Width) => (value: number) => device.writePort(port, width, value >>> 0);
  const entry = {
    device,
    read8: read(1),
    read16: read(2),
    // v86 wants a signed number.
    read32: () => device.readPort(port, 4) | 0,
    write8: write(1),
    write16: write(2),
    write32: write(4),
  };
  const { stream } = device;
  if (!stream) return entry;
  // v86 calls these with `device` as this: a data port's own methods, so that a word of PIO passes through nobody else.
  const { read16, write16, write32 } = stream;
  return { ...entry, device: stream, read16, read32: () => stream.read32() | 0, write16, write32 };
}
