import type { AtaRegister } from "../../assembly/spec/ata.ts";
import type { Block } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import type { Later } from "../core/flow.ts";
import type { Width } from "../core/machine.ts";
import { probeAta } from "../guest/ata/probe.ts";
import { connectBlkfront } from "../guest/blkfront.ts";
import type { BlockDriver } from "../guest/driver.ts";
import { probeVirtioBlk } from "../guest/virtio-blk.ts";
import { attachBlkback } from "../host/device/blkback.ts";
import { attachIde } from "../host/device/ide/controller.ts";
import { attachVirtioBlk } from "../host/device/virtio/attach.ts";
import type { AtaRegisters } from "../hypervisor/ata-registers.ts";
import type { Hypervisor } from "../hypervisor/hypervisor.ts";
import type { LabMachine } from "../hypervisor/machine.ts";

/** A disk plugged into a machine, and the guest's driver that found it. */
export interface Attached {
  driver: BlockDriver;
  /** Bytes the device has moved by other means than its block: words through a data port. */
  copied(): number;
  /** Unplugs the device; the driver is closed before. */
  close(): Later<void>;
}

/** Told of each register access that does not trap. */
export type RegisterTrace = (kind: "read" | "write", register: AtaRegister, width: Width, value: number) => void;

interface Host {
  hypervisor: Hypervisor;
  machine: LabMachine;
}

/** One way for a guest to reach its disk. */
export interface Model {
  title: string;
  /** Which of the three figures it is: bare metal, full virtualization or paravirtualization. */
  figure: "bare" | "full" | "para";
  /** What stands on the other side of the guest's driver. */
  device: string;
  attach(host: Host, block: Block, trace: RegisterTrace | null): Promise<Attached>;
}

async function attachAta(
  { machine }: Host,
  block: Block,
  mode: "pio" | "dma",
  direct?: (registers: AtaRegisters) => AtaRegisters,
): Promise<Attached> {
  const controller = attachIde(machine, { drives: [[block]] });
  const registers = direct?.(controller.channels[0]);
  const [driver] = await probeAta(machine.guest, { mode, ...(registers ? { registers } : {}) });
  if (!driver) {
    await controller.close();
    throw new ParavaneError("NOT_FOUND", "the guest's ATA driver found no disk on the primary channel");
  }
  return { driver, copied: () => controller.portBytes, close: () => controller.close() };
}

/** The same registers, told of to `trace`. */
function observed(registers: AtaRegisters, trace: RegisterTrace): AtaRegisters {
  return {
    interruptLine: registers.interruptLine,
    read(register, width) {
      const value = registers.read(register, width);
      trace("read", register, width, value);
      return value;
    },
    write(register, width, value) {
      trace("write", register, width, value);
      registers.write(register, width, value);
    },
  };
}

/** A window above guest RAM and a line that no legacy device has. */
const VIRTIO = { base: 0xd0000000, interrupt: 17 };

/** Every model of the lab, in the order in which machines came to have them. */
export const MODELS = {
  bare: {
    title: "bare metal",
    figure: "bare",
    device: "IDE controller",
    attach: (host, block, trace) =>
      attachAta(host, block, "dma", (registers) => (trace ? observed(registers, trace) : registers)),
  },
  "ide-pio": {
    title: "emulated IDE, PIO",
    figure: "full",
    device: "IDE emulation",
    attach: (host, block) => attachAta(host, block, "pio"),
  },
  "ide-dma": {
    title: "emulated IDE, DMA",
    figure: "full",
    device: "IDE emulation",
    attach: (host, block) => attachAta(host, block, "dma"),
  },
  xen: {
    title: "Xen virtual disk",
    figure: "para",
    device: "back end",
    attach: async ({ hypervisor, machine }, block) => {
      const device = attachBlkback(hypervisor, machine, block);
      const driver = connectBlkfront(hypervisor.xenGuest(machine));
      const close = async () => {
        await device.close();
        const { mapped } = hypervisor.domain(machine).grants;
        if (mapped > 0) throw new ParavaneError("PROTOCOL", `the back end left ${mapped} pages of the guest mapped`);
      };
      return { driver, copied: () => 0, close };
    },
  },
  virtio: {
    title: "virtio disk",
    figure: "para",
    device: "virtio device",
    attach: async ({ machine }, block) => {
      const device = attachVirtioBlk(machine, block, VIRTIO);
      const driver = probeVirtioBlk(machine.guest, VIRTIO);
      return { driver, copied: () => 0, close: () => device.close() };
    },
  },
} satisfies Record<string, Model>;

export type ModelName = keyof typeof MODELS;

export function modelOf(name: ModelName): Model {
  return MODELS[name];
}
