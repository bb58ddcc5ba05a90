import { PciCapability } from "../../assembly/spec/pci.ts";
import { PciCommon, VirtioPciCap, VirtioPciId, VirtioPciType } from "../../assembly/spec/virtio.ts";
import { ParavaneError } from "../core/error.ts";
import type { Width } from "../core/machine.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";
import { type BarWindow, findPci, type PciFunctionView } from "./pci.ts";
import { type QueueAddresses, VirtioBus } from "./virtio-bus.ts";

/** A driver's view of one virtio function on the PCI bus (VIRTIO 1.2 §4.1), its structures in port or memory space. */
export class VirtioPciBus extends VirtioBus {
  readonly interrupt: number;
  protected readonly place: Record<string, number>;
  readonly #cpu: GuestCpu;
  readonly #common: BarWindow;
  readonly #isr: BarWindow;
  readonly #device: BarWindow;
  readonly #notify: BarWindow;
  readonly #multiplier: number;
  /** Bytes from `#notify` on, by queue. */
  readonly #notifyOffsets: number[] = [];

  /** @throws ParavaneError NOT_FOUND when there is no device of that type, in `slot` if given, or it lacks a structure */
  constructor(cpu: GuestCpu, type: number, slot?: number) {
    super();
    this.#cpu = cpu;
    const view = findPci(cpu, VirtioPciId.Vendor, VirtioPciId.Device + type, slot);
    if (!view) throw new ParavaneError("NOT_FOUND", `no virtio device of type ${type} on the PCI bus`, {});
    view.enable();
    this.place = { slot: view.slot };
    this.interrupt = view.interruptLine;
    const found = structures(view);
    const need = (which: VirtioPciType): BarWindow => {
      const at = found.get(which);
      if (at) return at;
      throw new ParavaneError("NOT_FOUND", `the virtio function has no structure of type ${which}`, this.place);
    };
    this.#common = need(VirtioPciType.Common);
    this.#isr = need(VirtioPciType.Isr);
    this.#device = need(VirtioPciType.Device);
    this.#notify = need(VirtioPciType.Notify);
    this.#multiplier = found.get(VirtioPciType.Notify)!.multiplier;
  }

  get status(): number {
    return this.#read(this.#common, PciCommon.Status, 1);
  }
  set status(value: number) {
    this.#write(this.#common, PciCommon.Status, 1, value);
  }
  notify(queue: number): void {
    this.#write(this.#notify, this.#notifyOffsets[queue] ?? 0, 2, queue);
  }
  /** §4.1.4.5: reading acknowledges. */
  causes(): number {
    return this.#read(this.#isr, 0, 1);
  }
  queueSizeMax(queue: number): number {
    this.#write(this.#common, PciCommon.QueueSelect, 2, queue);
    return this.#read(this.#common, PciCommon.QueueEnable, 2) === 0
      ? this.#read(this.#common, PciCommon.QueueSize, 2)
      : 0;
  }

  protected offered(): number {
    this.#write(this.#common, PciCommon.DeviceFeatureSelect, 4, 0);
    return this.#read(this.#common, PciCommon.DeviceFeature, 4);
  }
  protected accept(low: number, high: number): void {
    for (const [select, word] of [low, high].entries()) {
      this.#write(this.#common, PciCommon.DriverFeatureSelect, 4, select);
      this.#write(this.#common, PciCommon.DriverFeature, 4, word);
    }
  }
  /** §4.1.5.1.3. */
  protected enableQueue(queue: number, size: number, at: QueueAddresses): boolean {
    const write = (register: number, width: Width, value: number) => this.#write(this.#common, register, width, value);
    write(PciCommon.QueueSelect, 2, queue);
    write(PciCommon.QueueSize, 2, size);
    write(PciCommon.QueueDescriptorsLow, 4, at.descriptors);
    write(PciCommon.QueueDescriptorsHigh, 4, 0);
    write(PciCommon.QueueDriverLow, 4, at.available);
    write(PciCommon.QueueDriverHigh, 4, 0);
    write(PciCommon.QueueDeviceLow, 4, at.used);
    write(PciCommon.QueueDeviceHigh, 4, 0);
    this.#notifyOffsets[queue] = this.#read(this.#common, PciCommon.QueueNotifyOffset, 2) * this.#multiplier;
    write(PciCommon.QueueEnable, 2, 1);
    return this.#read(this.#common, PciCommon.QueueEnable, 2) === 1;
  }
  protected generation(): number {
    return this.#read(this.#common, PciCommon.Generation, 1);
  }
  protected field(offset: number, width: Width): number {
    return this.#read(this.#device, offset, width);
  }

  #read(window: BarWindow, offset: number, width: Width): number {
    const at = window.base + offset;
    return window.kind === "io" ? this.#cpu.in(at, width) : this.#cpu.load(at, width);
  }
  #write(window: BarWindow, offset: number, width: Width, value: number): void {
    const at = window.base + offset;
    if (window.kind === "io") this.#cpu.out(at, width, value);
    else this.#cpu.store(at, width, value);
  }
}

/** Where the function says its structures are; the first of each type counts (§4.1.4). */
function structures(view: PciFunctionView): Map<number, BarWindow & { multiplier: number }> {
  const found = new Map<number, BarWindow & { multiplier: number }>();
  for (const at of view.capabilities(PciCapability.Vendor)) {
    const type = view.read(at + VirtioPciCap.Type, 1);
    const index = view.read(at + VirtioPciCap.Bar, 1);
    if (type >= VirtioPciType.Pci || index > 5 || found.has(type)) continue;
    const bar = view.bar(index);
    const base = bar.base + view.read(at + VirtioPciCap.Offset, 4);
    const multiplier = type === VirtioPciType.Notify ? view.read(at + VirtioPciCap.NotifyMultiplier, 4) : 0;
    found.set(type, { kind: bar.kind, base, multiplier });
  }
  return found;
}
