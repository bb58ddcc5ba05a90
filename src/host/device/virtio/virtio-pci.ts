import { PciCapability as Capability } from "../../../../assembly/spec/pci.ts";
import { DeviceType, PciCommon, VirtioPciCap, VirtioPciId, VirtioPciType } from "../../../../assembly/spec/virtio.ts";
import { ParavaneError } from "../../../core/error.ts";
import type {
  IoBar,
  Machine,
  MemoryBar,
  MmioDevice,
  PciCapability,
  PciFunction,
  PciRegisters,
  PortDevice,
  Release,
  Width,
} from "../../../core/machine.ts";
import { readCommon, writeCommon } from "./pci-common.ts";
import { type VirtioDevice, VirtioTransport } from "./transport.ts";

// BAR 0, in whichever space it is: small enough for ports, of which a BAR has 256 at most (PCI 3.0 §6.2.5.1).
//
//   00h ┌──────────────────────┐
//       │ common configuration │
//   40h ├──────────────────────┤
//       │ ISR status, 1 byte   │
//   44h ├──────────────────────┤
//       │ queue notify, 1 word │ one for all queues: the multiplier is 0 (§4.1.4.4)
//   80h ├──────────────────────┤
//       │ device configuration │
//  100h └──────────────────────┘
const ISR = 0x40;
const NOTIFY = 0x44;
const CONFIG = 0x80;
const PORTS = 0x100;
const PAGE = 0x1000;

/** §5: class codes of PCI for types of device; "other" when it has none of its own. */
const CLASS: Partial<Record<number, number>> = { [DeviceType.Block]: 0x010000 };
const OTHER = 0xff0000;

export interface VirtioPciOptions {
  /** Device number; the first free one when absent. */
  slot?: number;
  /** INTA#'s interrupt line, where the machine leaves the choice to the device. */
  interrupt: number;
  /** Where BAR 0 starts out, one of the two: 256 ports, the fast way in an emulator of x86, or a page of memory space. */
  ports?: number;
  memory?: number;
}

/**
 * The virtio-pci transport without its legacy interface (VIRTIO 1.2 §4.1): INTx and the ISR status register; no MSI-X, for
 * the machine carries no messages. Any structure can be accessed in any width; §4.1.3.1 has drivers use the field's own.
 */
export class VirtioPci implements PortDevice, MmioDevice, PciRegisters {
  readonly transport: VirtioTransport;
  readonly #function: PciFunction;
  readonly #base: number;
  readonly #release: Release;

  /** @throws ParavaneError EXISTS (the slot is taken), INVALID (no BAR, or two) */
  constructor(machine: Machine, device: VirtioDevice, options: VirtioPciOptions) {
    const bar = this.#bar(options);
    this.#base = bar.kind === "io" ? bar.base : 0;
    this.#function = machine.pci.attach({
      ...(options.slot === undefined ? {} : { slot: options.slot }),
      vendor: VirtioPciId.Vendor,
      device: VirtioPciId.Device + device.type,
      classCode: CLASS[device.type] ?? OTHER,
      // §4.1.2.1: 1 or higher, so that no driver of before 1.0 takes it.
      revision: 1,
      subsystemVendor: VirtioPciId.Vendor,
      subsystem: VirtioPciId.Device + device.type,
      interrupt: options.interrupt,
      bars: [bar],
      capabilities: this.#capabilities(device),
    });
    this.transport = new VirtioTransport(device, machine.memory, this.#function.interrupt);
    this.#release = machine.onReset(() => this.transport.reset());
  }

  close(): void | Promise<void> {
    this.#release();
    this.transport.reset();
    this.#function.detach();
    return this.transport.stopping;
  }

  readPort(port: number, width: Width): number {
    return this.readMmio(port - this.#base, width);
  }
  writePort(port: number, width: Width, value: number): void {
    this.writeMmio(port - this.#base, width, value);
  }

  readMmio(offset: number, width: Width): number {
    const t = this.transport;
    if (offset < PciCommon.Size) return readCommon(t, offset, width);
    // §4.1.4.5: reading clears it and takes the interrupt back.
    if (offset === ISR) {
      const { causes } = t;
      t.acknowledge(causes);
      return causes;
    }
    return offset >= CONFIG && offset < PORTS ? t.device.readConfig(offset - CONFIG, width) : 0;
  }

  writeMmio(offset: number, width: Width, value: number): void {
    const t = this.transport;
    if (offset === NOTIFY) {
      // Without mastering there is no reaching the rings.
      if (this.#function.busMaster) t.notify(value & 0xffff);
    } else if (offset < PciCommon.Size) writeCommon(t, offset, width, value);
    else if (offset >= CONFIG && offset < PORTS) t.device.writeConfig(offset - CONFIG, width, value);
  }

  /** §4.1.4.9: the BAR through configuration space, for firmware that cannot map it. The capability says what is meant. */
  readConfig(capability: Uint8Array, offset: number): number {
    const at = place(capability);
    return at ? this.readMmio(at.offset, at.width) >>> (8 * offset) : 0;
  }
  writeConfig(capability: Uint8Array, offset: number, width: Width, value: number): void {
    const at = place(capability);
    // The driver writes as many bytes as the length says (§4.1.4.9.2); v86 hands on whole words.
    if (at && offset === 0 && width >= at.width)
      this.writeMmio(at.offset, at.width, value & (0xffffffff >>> (32 - 8 * at.width)));
  }

  #bar(options: VirtioPciOptions): IoBar | MemoryBar {
    const { ports, memory } = options;
    if (ports !== undefined && memory === undefined) return { kind: "io", size: PORTS, base: ports, device: this };
    if (memory !== undefined && ports === undefined) return { kind: "memory", size: PAGE, base: memory, device: this };
    throw new ParavaneError("INVALID", "a virtio function on PCI has its BAR either in port or in memory space", {});
  }

  #capabilities(device: VirtioDevice): PciCapability[] {
    const structures: [VirtioPciType, offset: number, length: number, extra?: number][] = [
      [VirtioPciType.Common, 0, PciCommon.Size],
      [VirtioPciType.Isr, ISR, 1],
      [VirtioPciType.Device, CONFIG, device.configSize],
      [VirtioPciType.Notify, NOTIFY, 2, VirtioPciCap.NotifyMultiplier + 4],
      [VirtioPciType.Pci, 0, 0, VirtioPciCap.Data + 4],
    ];
    return structures.map(([type, offset, length, size = VirtioPciCap.Size]) => {
      const bytes = new Uint8Array(size);
      bytes[VirtioPciCap.Id] = Capability.Vendor;
      bytes[VirtioPciCap.Length] = size;
      bytes[VirtioPciCap.Type] = type;
      bytes[VirtioPciCap.Offset] = offset;
      bytes[VirtioPciCap.StructureLength] = length;
      if (type !== VirtioPciType.Pci) return { bytes };
      const writable = new Uint8Array(size);
      writable[VirtioPciCap.Bar] = 0xff;
      writable.fill(0xff, VirtioPciCap.Offset, VirtioPciCap.Size);
      return { bytes, writable, live: { from: VirtioPciCap.Data, device: this } };
    });
  }
}

/** What the access capability points at: one, two or four bytes, aligned, inside BAR 0 (§4.1.4.9.1). */
function place(capability: Uint8Array): { offset: number; width: Width } | null {
  const view = new DataView(capability.buffer, capability.byteOffset);
  const offset = view.getUint32(VirtioPciCap.Offset, true);
  const width = view.getUint32(VirtioPciCap.StructureLength, true);
  if (width !== 1 && width !== 2 && width !== 4) return null;
  if (capability[VirtioPciCap.Bar] !== 0 || offset % width !== 0 || offset + width > PORTS) return null;
  return { offset, width };
}
