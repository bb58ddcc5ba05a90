import { type Block, type BlockRequest, Op, Status } from "../../src/core/block.ts";
import { attachIde } from "../../src/host/device/ide/controller.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { Ports } from "./ports.ts";

/** A controller on a bus, and the memory that its bus master reaches. */
export interface Rig {
  ports: Ports;
  ram: Uint8Array;
  /** First port of the bus master. */
  busMaster: number;
  /** How often the interrupt line has risen. */
  interrupts(): number;
}

const RAM = 4 << 20;

/** A disk in an array. */
class ArrayBlock implements Block {
  readonly size: number;
  readonly sectorSize = 512;
  readonly readOnly = false;
  copied = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.size = bytes.length;
  }

  submit(batch: readonly BlockRequest[]): void {
    for (const request of batch) {
      const { op, memory, segments } = request;
      let at = request.offset;
      for (let i = 0; i < segments.count; i++) {
        const start = segments.start(i);
        const length = segments.length(i);
        if (op === Op.Read) memory.set(this.#bytes.subarray(at, at + length), start);
        else if (op === Op.Write) this.#bytes.set(memory.subarray(start, start + length), at);
        at += length;
      }
      request.status = Status.Ok;
    }
  }
  close(): void {}
}

export function ourRig(disk: Uint8Array): Rig {
  const ports = new Ports();
  const machine = new LabMachine({ memory: RAM });
  let interrupts = 0;
  const interrupt = () => {
    let level = false;
    return {
      set(asserted: boolean) {
        if (asserted && !level) interrupts++;
        level = asserted;
      },
    };
  };
  attachIde(Object.assign(machine, { ports, interrupt }), { drives: [[new ArrayBlock(disk)]], slot: 1 });
  // The PCI function's command register: I/O and bus mastering.
  machine.pci.writePort(0xcf8, 4, 0x80000804);
  machine.pci.writePort(0xcfc, 2, 5);
  return { ports, ram: machine.guest.ram.bytes(0, RAM), busMaster: 0xc000, interrupts: () => interrupts };
}

/** v86's src/ide.js over what it needs of its CPU. */
export function v86Rig(IDEController: new (...all: unknown[]) => object, disk: Uint8Array): Rig {
  const ports = new Ports();
  const ram = new Uint8Array(RAM);
  const view = new DataView(ram.buffer);
  let interrupts = 0;
  let level = false;
  const cpu = {
    io: ports,
    mem8: ram,
    devices: { pci: { register_device() {} }, rtc: { cmos_read: () => 0, cmos_write() {} } },
    device_raise_irq() {
      if (!level) interrupts++;
      level = true;
    },
    device_lower_irq() {
      level = false;
    },
    read32s: (at: number) => view.getInt32(at, true),
    read16: (at: number) => view.getUint16(at, true),
    read8: (at: number) => ram[at],
    write_blob: (blob: Uint8Array, at: number) => ram.set(blob, at),
  };
  // Its SyncBuffer (src/buffer.js): a view for a read, a copy for a write.
  const buffer = {
    byteLength: disk.length,
    get: (at: number, length: number, call: (data: Uint8Array) => void) => call(disk.subarray(at, at + length)),
    set(at: number, data: Uint8Array, call: () => void) {
      disk.set(data, at);
      call();
    },
  };
  const bus = { send() {}, register() {} };
  new IDEController(cpu, bus, [
    [{ buffer }, undefined],
    [undefined, undefined],
  ]);
  // It powers up with its interrupt off.
  ports.out8(0x3f6, 0);
  return { ports, ram, busMaster: 0xb400, interrupts: () => interrupts };
}
