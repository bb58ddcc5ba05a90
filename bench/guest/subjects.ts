import { Feature } from "../../assembly/spec/virtio.ts";
import type { Block, BlockRequest } from "../../src/core/block.ts";
import { VirtioBlk } from "../../src/host/device/virtio/virtio-blk.ts";
import { VirtioPci } from "../../src/host/device/virtio/virtio-pci.ts";
import { ThroughBlock } from "../../src/host/filter/through.ts";
import { createDisk, MemoryStore } from "../../src/index.ts";
import { guestKit } from "../../test/guest/kit/kit.ts";
import { Guest, type GuestOptions } from "../../test/support/v86-guest.ts";

export const MiB = 2 ** 20;
const SIZE = 64 * MiB;
/** Of libata: no DMA at all. */
const PIO = "kit.libata=dma=0";

/** A disk of a guest. */
export interface Subject {
  name: string;
  guest: Guest;
  /** Path in the guest. */
  device: string;
  /** Name of the subject that its speed is compared with. */
  yardstick: string;
}

const disk = () => createDisk(new MemoryStore(), { format: "raw", size: SIZE });

/** Without a trick: nothing is complete when `submit` returns, but in a later turn of the event loop. */
class LaterBlock extends ThroughBlock {
  override async submit(batch: readonly BlockRequest[]): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    await this.block.submit(batch);
  }
}

/** The device appears as the kernel finds it. */
async function boot(
  options: GuestOptions,
  append: string,
  devices: readonly string[],
  more?: (guest: Guest) => void,
): Promise<Guest> {
  const guest = new Guest({ ...options, memory: 128 * MiB, kernel: { kit: guestKit(), append } });
  if (more) {
    await guest.disks.ready;
    more(guest);
  }
  await guest.expect("/ # ", 300);
  await guest.run("stty -echo cols 1000");
  for (const device of devices) await guest.run(`until [ -b ${device} ]; do usleep 100000; done`);
  await guest.emulator.stop();
  return guest;
}

/** The one that ATA drives: which of two is called so, is up to the kernel. */
async function ataDisk(guest: Guest): Promise<string> {
  await guest.emulator.run();
  const name = await guest.run(
    "for d in sda sdb; do grep -q ATA /sys/block/$d/device/vendor && echo /dev/$d; done; true",
  );
  await guest.emulator.stop();
  return name.trim();
}

const theirs = () => ({ v86: { hda: { buffer: new ArrayBuffer(SIZE) } } });

const DMA = "v86's IDE, DMA";

/** v86's own controller and ours, with DMA and without; and a disk of the guest's kernel without any device. */
export async function models(): Promise<Subject[]> {
  const dma = await boot(theirs(), "", ["/dev/sda"]);
  const pio = await boot(theirs(), PIO, ["/dev/sda"]);
  const ours = await boot(
    { ide: [[await disk()]], virtio: [await disk()], pvscsi: [await disk()] },
    "kit.load=null_blk",
    [...["/dev/sda", "/dev/sdb", "/dev/vda", "/dev/nullb0"]],
  );
  const ata = await ataDisk(ours);
  const ourPio = await boot({ ide: [[await disk()]] }, PIO, ["/dev/sda"]);
  return [
    { name: DMA, guest: dma, device: "/dev/sda", yardstick: DMA },
    { name: "our IDE, DMA", guest: ours, device: ata, yardstick: DMA },
    { name: "our virtio", guest: ours, device: "/dev/vda", yardstick: DMA },
    { name: "our PVSCSI", guest: ours, device: ata === "/dev/sda" ? "/dev/sdb" : "/dev/sda", yardstick: DMA },
    { name: "no device (null_blk)", guest: ours, device: "/dev/nullb0", yardstick: DMA },
    { name: "v86's IDE, PIO", guest: pio, device: "/dev/sda", yardstick: "v86's IDE, PIO" },
    { name: "our IDE, PIO", guest: ourPio, device: "/dev/sda", yardstick: "v86's IDE, PIO" },
  ];
}

/** A virtio disk whose driver is not offered some features. */
function plugWithout(guest: Guest, block: Block, features: number, ports: number): void {
  const machine = guest.disks.machine!;
  const device = new VirtioBlk(machine.memory, block, "without");
  Object.assign(device, { features: [device.features[0] & ~features, device.features[1]] });
  new VirtioPci(machine, device, { interrupt: 11, ports });
}

/** Our devices with one trick taken away each. */
export async function tricks(all: readonly Subject[]): Promise<Subject[]> {
  const [eventIndex, indirect] = [await disk(), await disk()];
  const ide = [[new LaterBlock(await disk())]];
  const virtio = [new LaterBlock(await disk())];
  const guest = await boot({ ide, virtio }, "", ["/dev/sda", "/dev/vda", "/dev/vdb", "/dev/vdc"], (it) => {
    plugWithout(it, eventIndex, 1 << Feature.EventIndex, 0xd800);
    plugWithout(it, indirect, 1 << Feature.IndirectDescriptors, 0xd900);
  });
  const yardstick = "our virtio";
  return [
    ...all
      .filter(({ name }) => name === "our virtio" || name === "our IDE, DMA")
      .map((each) => ({ ...each, yardstick: each.name })),
    { name: "IDE, complete in a later turn", guest, device: "/dev/sda", yardstick: "our IDE, DMA" },
    { name: "virtio, complete in a later turn", guest, device: "/dev/vda", yardstick },
    { name: "virtio, no event index", guest, device: "/dev/vdb", yardstick },
    { name: "virtio, no indirect descriptors", guest, device: "/dev/vdc", yardstick },
  ];
}
