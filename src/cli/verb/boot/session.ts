import { writeFileSync } from "node:fs";
import { ParavaneError } from "../../../core/error.ts";
import type { Tray } from "../../../host/device/ide/atapi/options.ts";
import { createSnapshot } from "../../../host/image/snapshot.ts";
import type { Disc } from "../../../host/media/disc.ts";
import { attach, type V86Disks } from "../../../v86/index.ts";
import { type Emulator, makeEmulator } from "./emulator.ts";
import { firmware, readWhole } from "./firmware.ts";
import { arrange, type BootDisk, openDisc, openDisks, type Place } from "./images.ts";
import type { BootOptions } from "./options.ts";
import { Counted } from "./stats.ts";

/** Room for the screen's modes; text needs little. */
const VGA_MEMORY = 8 << 20;

/** A running machine, and what a person standing before it can do. */
export class Session {
  readonly emulator: Emulator;
  /** Fulfilled when the guest has halted its processor for good. */
  readonly halted: Promise<void>;
  readonly #disks: BootDisk[];
  readonly #counted: Counted[];
  readonly #discs: Disc[];
  readonly #cds: Place[];
  readonly #attached: V86Disks;
  readonly #started = performance.now();

  private constructor(
    emulator: Emulator,
    attached: V86Disks,
    disks: BootDisk[],
    counted: Counted[],
    discs: Disc[],
    cds: Place[],
  ) {
    this.emulator = emulator;
    this.#attached = attached;
    this.#disks = disks;
    this.#counted = counted;
    this.#discs = discs;
    this.#cds = cds;
    this.halted = new Promise((resolve) => emulator.add_listener("cpu-event-halt", resolve));
  }

  /** Opens all that is named and builds the machine around it, standing still. */
  static async open(given: BootOptions, onWarning: (text: string) => void): Promise<Session> {
    const { bios, vga } = firmware(given.diskModel, given.bios, given.vgaBios);
    const state = given.stateLoad === undefined ? null : readWhole(given.stateLoad);
    const kernel = given.kernel && {
      bzimage: { buffer: readWhole(given.kernel) },
      ...(given.initrd && { initrd: { buffer: readWhole(given.initrd) } }),
      cmdline: given.append,
    };
    const disks = await openDisks(given, onWarning);
    const discs: Disc[] = [];
    try {
      for (const path of given.cdroms) discs.push(await openDisc(path));
      const counted = disks.map(({ block }) => new Counted(block));
      const { plugged, cds } = arrange(given.diskModel, counted, discs);
      const emulator = await makeEmulator({
        memory_size: given.memory,
        vga_memory_size: VGA_MEMORY,
        bios: { buffer: bios },
        vga_bios: { buffer: vga },
        ...kernel,
        // What those of a page would bind to is not here; keys are sent as scan codes.
        ...{ disable_keyboard: true, disable_mouse: true, disable_speaker: true },
      });
      const attached = attach(emulator, plugged);
      const session = new Session(emulator, attached, disks, counted, discs, cds);
      await attached.ready;
      if (state) await emulator.restore_state(state);
      return session;
    } catch (thrown) {
      for (const each of [...discs, ...disks]) await each.close();
      throw thrown;
    }
  }

  /** Takes the disc out of CD drive `index`, counted from 0. @throws ParavaneError NOT_FOUND, BUSY (the guest has locked it) */
  eject(index = 0): string {
    return this.#tray(index).eject() ? `CD drive ${index} is open` : `CD drive ${index} was empty, and is open`;
  }

  /** Puts another disc in. @throws ParavaneError NOT_FOUND, and what opening it throws */
  async insert(path: string, index = 0): Promise<string> {
    const tray = this.#tray(index);
    const disc = await openDisc(path);
    this.#discs.push(disc);
    tray.insert(disc);
    return `${path} is in CD drive ${index}`;
  }

  /** Keeps the first disk as it is now inside its own image. @throws ParavaneError UNSUPPORTED */
  async snapshot(name: string): Promise<string> {
    const image = this.#disks[0]?.image;
    if (!image) {
      const hint = "Start without --snapshot, from a qcow2 image";
      throw new ParavaneError("UNSUPPORTED", "the changes of this disk are kept nowhere", {}, { hint });
    }
    await createSnapshot(image, { name });
    return `snapshot "${name}" is in ${this.#disks[0].path}`;
  }

  async saveState(path: string): Promise<string> {
    writeFileSync(path, new Uint8Array(await this.emulator.save_state()));
    return `the machine's state is in ${path}`;
  }

  stats(): string[] {
    const seconds = ((performance.now() - this.#started) / 1000).toFixed(1);
    const lines = this.#counted.map((each, i) => each.describe(this.#disks[i].path));
    return [...lines, `${seconds} s since the start`];
  }

  /** Stops the machine, lets what is under way end, and makes the disks durable. */
  async close(): Promise<void> {
    await this.emulator.stop();
    await this.#attached.close();
    await this.emulator.destroy();
    for (const each of [...this.#disks, ...this.#discs]) await each.close();
  }

  #tray(index: number): Tray {
    const place = this.#cds[index];
    if (!place) {
      const text = this.#cds.length === 0 ? "there is no CD drive" : `there is no CD drive ${index}`;
      throw new ParavaneError("NOT_FOUND", text, {}, { hint: "Start with --cdrom" });
    }
    return this.#attached.ide!.tray(place[0], place[1]);
  }
}
