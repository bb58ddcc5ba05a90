import {
  AvailableRing,
  BlkHeader,
  BlkRange,
  Descriptor,
  DescriptorFlag,
  DeviceStatus,
  Feature,
  Mmio,
  PciCommon,
  UsedRing,
} from "../../assembly/spec/virtio.ts";
import { VqDevice } from "../../assembly/spec/virtqueue.ts";
import type { Block } from "../../src/core/block.ts";
import { attachVirtioBlk, type VirtioBlkDevice } from "../../src/host/device/virtio/attach.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { coreFor, PAGE } from "../../src/wasm/core.ts";

export interface Element {
  address: number;
  length: number;
  /** Device-writable. */
  write?: boolean;
  /** Overrides what the chain would say. */
  flags?: number;
  next?: number;
  high?: number;
}

const BASE = 0xd0000000;
const LINE = 5;

/** Where things lie in this guest. Pages of 4 KiB from 1 MiB on. */
export const PLACE = { rings: 0x100000, header: 0x110000, status: 0x111000, table: 0x112000, data: 0x120000 };

export interface RigOptions {
  queueSize?: number;
  /** Feature bits to accept, of those offered; VERSION_1 always. Default: all. */
  features?: readonly number[];
  memory?: number;
  /** On the PCI bus, BAR 0 in that space, instead of behind virtio-mmio. */
  pci?: "ports" | "memory";
}

/** Offsets into the BAR, as the capabilities of our own device tell them. */
const ISR = 0x40;
const NOTIFY = 0x44;
const CONFIG = 0x80;
const PORTS = 0xe800;

/** Where virtio-pci has what virtio-mmio has, and its width. */
const PCI: Partial<Record<number, [offset: number, width: 1 | 2 | 4]>> = {
  [Mmio.DeviceFeatures]: [PciCommon.DeviceFeature, 4],
  [Mmio.DeviceFeaturesSelect]: [PciCommon.DeviceFeatureSelect, 4],
  [Mmio.DriverFeatures]: [PciCommon.DriverFeature, 4],
  [Mmio.DriverFeaturesSelect]: [PciCommon.DriverFeatureSelect, 4],
  [Mmio.QueueSelect]: [PciCommon.QueueSelect, 2],
  [Mmio.QueueSizeMax]: [PciCommon.QueueSize, 2],
  [Mmio.QueueSize]: [PciCommon.QueueSize, 2],
  [Mmio.QueueReady]: [PciCommon.QueueEnable, 2],
  [Mmio.QueueNotify]: [NOTIFY, 2],
  [Mmio.InterruptStatus]: [ISR, 1],
  [Mmio.Status]: [PciCommon.Status, 1],
  [Mmio.QueueDescriptorsLow]: [PciCommon.QueueDescriptorsLow, 4],
  [Mmio.QueueDescriptorsHigh]: [PciCommon.QueueDescriptorsHigh, 4],
  [Mmio.QueueDriverLow]: [PciCommon.QueueDriverLow, 4],
  [Mmio.QueueDriverHigh]: [PciCommon.QueueDriverHigh, 4],
  [Mmio.QueueDeviceLow]: [PciCommon.QueueDeviceLow, 4],
  [Mmio.QueueDeviceHigh]: [PciCommon.QueueDeviceHigh, 4],
  [Mmio.ConfigGeneration]: [PciCommon.Generation, 1],
};

/**
 * A virtio-blk driver written out register by register and byte by byte, sharing nothing with the one that ships: it can
 * break every rule, and it is the judge of what the device wrote.
 */
export class RawDriver {
  readonly machine: LabMachine;
  readonly device: VirtioBlkDevice;
  readonly size: number;
  readonly features: readonly number[];
  readonly descriptors = PLACE.rings;
  readonly available: number;
  readonly used: number;
  availableIndex = 0;
  usedIndex = 0;
  interrupts = 0;
  /** Causes of the last interrupt. */
  causes = 0;
  #nextFree = 0;
  readonly #pci: RigOptions["pci"];

  constructor(block: Block, options: RigOptions = {}) {
    this.machine = new LabMachine({ memory: options.memory ?? 4 << 20 });
    this.#pci = options.pci;
    const bar = options.pci === "ports" ? { ports: PORTS } : { memory: BASE };
    const place = options.pci ? { pci: { slot: 3, interrupt: LINE, ...bar } } : { base: BASE, interrupt: LINE };
    this.device = attachVirtioBlk(this.machine, block, { ...place, identity: "disk of the test" });
    if (options.pci) this.setPci(0x04, 2, 7);
    this.size = options.queueSize ?? 16;
    this.available = this.descriptors + this.size * Descriptor.Size;
    this.used = (this.available + AvailableRing.Overhead + 2 * this.size + 3) & ~3;
    this.machine.guest.onInterrupt(LINE, () => {
      this.interrupts++;
      this.causes = this.read(Mmio.InterruptStatus);
      this.write(Mmio.InterruptAcknowledge, this.causes);
    });
    this.features = options.features ?? [];
    this.boot(options.features);
  }

  get ram() {
    return this.machine.guest.ram;
  }
  /** An access to BAR 0 of the PCI function, or to the window of virtio-mmio. */
  peek(offset: number, width: 1 | 2 | 4): number {
    const { guest } = this.machine;
    return this.#pci === "ports" ? guest.in(PORTS + offset, width) : guest.load(BASE + offset, width);
  }
  poke(offset: number, width: 1 | 2 | 4, value: number): void {
    const { guest } = this.machine;
    if (this.#pci === "ports") guest.out(PORTS + offset, width, value);
    else guest.store(BASE + offset, width, value);
  }
  /** A register, by its name in virtio-mmio. */
  read(register: number): number {
    const [offset, width] = this.#pci ? (PCI[register] ?? [PORTS, 1]) : ([register, 4] as const);
    return this.peek(offset, width);
  }
  write(register: number, value: number): void {
    if (this.#pci && PCI[register] === undefined) return;
    const [offset, width] = this.#pci ? (PCI[register] as [number, 1 | 2 | 4]) : ([register, 4] as const);
    this.poke(offset, width, value);
  }
  config(offset: number, width: 1 | 2 | 4): number {
    return this.peek((this.#pci ? CONFIG : Mmio.Config) + offset, width);
  }
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.poke((this.#pci ? CONFIG : Mmio.Config) + offset, width, value);
  }
  /** Configuration space of the function in slot 3. */
  getPci(register: number, width: 1 | 2 | 4): number {
    this.#select(register);
    return this.machine.guest.in(0xcfc + (register & 3), width);
  }
  setPci(register: number, width: 1 | 2 | 4, value: number): void {
    this.#select(register);
    this.machine.guest.out(0xcfc + (register & 3), width, value);
  }
  #select(register: number): void {
    this.machine.guest.out(0xcf8, 4, (0x80000000 | (3 << 11) | (register & 0xfc)) >>> 0);
  }
  get status(): number {
    return this.read(Mmio.Status);
  }
  /** The device's context: the first thing it reserved. */
  readonly context = PAGE;
  /** Why the device gave its queue up (VqFault). */
  get fault(): number {
    return coreFor(this.machine.memory.wasm).get(this.context + VqDevice.Fault);
  }
  get needsReset(): boolean {
    return (this.status & DeviceStatus.NeedsReset) !== 0;
  }

  /** Reset, features, queue 0, DRIVER_OK. */
  boot(features?: readonly number[]): void {
    this.negotiate(features);
    this.setUp();
    this.write(Mmio.Status, 1 | 2 | DeviceStatus.FeaturesOk | DeviceStatus.DriverOk);
  }
  negotiate(features?: readonly number[]): void {
    this.write(Mmio.Status, 0);
    this.write(Mmio.Status, DeviceStatus.Acknowledge);
    this.write(Mmio.Status, DeviceStatus.Acknowledge | DeviceStatus.Driver);
    this.write(Mmio.DeviceFeaturesSelect, 0);
    const offered = this.read(Mmio.DeviceFeatures);
    const low = features ? features.reduce((word, bit) => word | (1 << bit), 0) : offered;
    this.write(Mmio.DriverFeaturesSelect, 0);
    this.write(Mmio.DriverFeatures, low >>> 0);
    this.write(Mmio.DriverFeaturesSelect, 1);
    this.write(Mmio.DriverFeatures, 1 << (Feature.Version1 - 32));
    this.write(Mmio.Status, DeviceStatus.Acknowledge | DeviceStatus.Driver | DeviceStatus.FeaturesOk);
  }
  setUp(at: { size?: number; descriptors?: number; available?: number; used?: number; high?: number } = {}): void {
    const { ram } = this;
    ram.bytes(this.descriptors, this.used + UsedRing.Overhead + 8 * this.size - this.descriptors).fill(0);
    this.availableIndex = this.usedIndex = this.#nextFree = 0;
    this.write(Mmio.QueueSelect, 0);
    this.write(Mmio.QueueSize, at.size ?? this.size);
    this.write(Mmio.QueueDescriptorsLow, at.descriptors ?? this.descriptors);
    this.write(Mmio.QueueDescriptorsHigh, at.high ?? 0);
    this.write(Mmio.QueueDriverLow, at.available ?? this.available);
    this.write(Mmio.QueueDriverHigh, 0);
    this.write(Mmio.QueueDeviceLow, at.used ?? this.used);
    this.write(Mmio.QueueDeviceHigh, 0);
    this.write(Mmio.QueueReady, 1);
  }

  /** Writes one descriptor of the table at `table`. */
  describe(table: number, index: number, element: Element, last: boolean, next = index + 1): void {
    const at = table + index * Descriptor.Size;
    const flags = element.flags ?? (last ? 0 : DescriptorFlag.Next) | (element.write ? DescriptorFlag.Write : 0);
    this.ram.write32(at, element.address);
    this.ram.write32(at + Descriptor.AddressHigh, element.high ?? 0);
    this.ram.write32(at + Descriptor.Length, element.length);
    this.ram.write16(at + Descriptor.Flags, flags);
    this.ram.write16(at + Descriptor.Next, element.next ?? (last ? 0 : next));
  }

  /** A chain of direct descriptors from the next free one on (wrapping); its head. */
  chain(elements: readonly Element[]): number {
    const head = this.#nextFree;
    elements.forEach((element, i) => {
      const index = (head + i) % this.size;
      this.describe(this.descriptors, index, element, i === elements.length - 1, (index + 1) % this.size);
    });
    this.#nextFree = (head + elements.length) % this.size;
    return head;
  }

  /** A chain of one descriptor that refers to a table at `table`; its head. */
  indirect(elements: readonly Element[], table = PLACE.table): number {
    for (const [i, element] of elements.entries()) this.describe(table, i, element, i === elements.length - 1);
    return this.chain([{ address: table, length: elements.length * Descriptor.Size, flags: DescriptorFlag.Indirect }]);
  }

  header(type: number, sector: number, at = PLACE.header): Element {
    this.ram.write32(at + BlkHeader.Type, type);
    this.ram.write32(at + 4, 0);
    this.ram.write32(at + BlkHeader.Sector, sector % 2 ** 32);
    this.ram.write32(at + BlkHeader.Sector + 4, Math.floor(sector / 2 ** 32));
    return { address: at, length: BlkHeader.Size };
  }
  range(at: number, sector: number, sectors: number, flags = 0): Element {
    this.ram.write32(at + BlkRange.Sector, sector);
    this.ram.write32(at + BlkRange.Sector + 4, 0);
    this.ram.write32(at + BlkRange.Sectors, sectors);
    this.ram.write32(at + BlkRange.Flags, flags);
    return { address: at, length: BlkRange.Size };
  }
  /** The status byte, not written yet. */
  statusByte(at = PLACE.status): Element {
    this.ram.write8(at, 0xff);
    return { address: at, length: 1, write: true };
  }

  publish(...heads: number[]): void {
    for (const head of heads) {
      this.ram.write16(this.available + AvailableRing.Ring + 2 * (this.availableIndex % this.size), head);
      this.availableIndex = (this.availableIndex + 1) & 0xffff;
    }
    this.ram.write16(this.available + AvailableRing.Index, this.availableIndex);
  }
  kick(queue = 0): void {
    this.write(Mmio.QueueNotify, queue);
  }

  /** Used elements since last asked. */
  collect(): { id: number; length: number }[] {
    const found = [];
    for (const index = this.ram.read16(this.used + UsedRing.Index); this.usedIndex !== index; ) {
      const at = this.used + UsedRing.Ring + 8 * (this.usedIndex % this.size);
      found.push({ id: this.ram.read32(at), length: this.ram.read32(at + 4) });
      this.usedIndex = (this.usedIndex + 1) & 0xffff;
    }
    return found;
  }

  set usedEvent(index: number) {
    this.ram.write16(this.available + AvailableRing.Ring + 2 * this.size, index);
  }
  get availableEvent(): number {
    return this.ram.read16(this.used + UsedRing.Ring + 8 * this.size);
  }

  /** One request, direct unless told, published and notified; its status byte and used element. */
  request(
    type: number,
    sector: number,
    data: readonly Element[],
    options: { indirect?: boolean } = {},
  ): { status: number; length: number | undefined } {
    const elements = [this.header(type, sector), ...data, this.statusByte()];
    const head = options.indirect ? this.indirect(elements) : this.chain(elements);
    this.publish(head);
    this.kick();
    const used = this.collect();
    if (used.length > 1 || (used.length === 1 && used[0].id !== head)) throw new Error("wrong used element");
    return { status: this.ram.read8(PLACE.status), length: used[0]?.length };
  }
}
