import {
  HostStatus,
  PvscsiCommand,
  PvscsiCommandStatus,
  PvscsiInterrupt,
  PvscsiMessage,
  PvscsiPage,
  PvscsiPci,
  PvscsiRegister,
  PvscsiRings,
  PvscsiSetupMessages,
  PvscsiSetupRings,
} from "../../assembly/spec/pvscsi.ts";
import { ParavaneError } from "../core/error.ts";
import type { Release } from "../core/machine.ts";
import { SegmentList } from "../core/segments.ts";
import type { GuestCpu } from "../hypervisor/machine.ts";
import { findPci } from "./pci.ts";
import { PvscsiDriverRings, type ScsiCall, type ScsiResult } from "./pvscsi-rings.ts";
import { ScsiDiskDriver } from "./scsi-disk.ts";

export interface PvscsiProbe {
  /** Device number on the PCI bus; wherever the adapter is, when absent. */
  slot?: number;
  /** Pages of the request ring, each 32 commands; a power of two, default 4. */
  ringPages?: number;
  /**
   * Look at the completion ring right after the kick, with interrupts off: what the device has done by then costs no
   * interrupt. Default true.
   */
  pollFirst?: boolean;
  /** How many targets to look for, from 0; default 16. */
  targets?: number;
}

/**
 * Finds VMware's paravirtual SCSI adapter, starts it and returns a driver for each disk that answers.
 * @throws ParavaneError NOT_FOUND, UNSUPPORTED (it refuses its rings), NO_SPACE
 */
export function probePvscsi(cpu: GuestCpu, options: PvscsiProbe = {}): ScsiDiskDriver[] {
  const host = new PvscsiHost(cpu, options);
  const disks: ScsiDiskDriver[] = [];
  for (let target = 0; target < (options.targets ?? 16); target++) {
    const { host: answer, status } = host.callNow({
      target,
      cdb: Uint8Array.of(0x12, 0, 0, 0, 0, 0),
      direction: "none",
      segments: new SegmentList(1),
    });
    if (answer === HostStatus.Success && status === 0) disks.push(new ScsiDiskDriver(cpu, host, target));
  }
  if (disks.length === 0) host.release();
  return disks;
}

/** The adapter's driver, shared by the disks behind it. Exits of a batch: the kick, and the write that ends the interrupt. */
export class PvscsiHost {
  readonly rings: PvscsiDriverRings;
  /** A target has come or gone. */
  onMessage: (type: number, target: number) => void = () => {};
  readonly #cpu: GuestCpu;
  readonly #base: number;
  readonly #messages: number;
  readonly #pollFirst: boolean;
  readonly #releases: Release[] = [];
  #messagesSeen = 0;
  /** Something new is on the ring; `kick` is at work. */
  #wanted = false;
  #kicking = false;
  #users = 0;
  #closed = false;

  constructor(cpu: GuestCpu, options: PvscsiProbe) {
    this.#cpu = cpu;
    const view = findPci(cpu, PvscsiPci.Vendor, PvscsiPci.Device, options.slot);
    if (!view) throw new ParavaneError("NOT_FOUND", "there is no PVSCSI adapter on the PCI bus");
    view.enable();
    this.#base = view.bar(0).base;
    this.#pollFirst = options.pollFirst ?? true;
    this.rings = new PvscsiDriverRings(cpu.ram, options.ringPages ?? 4);
    this.#messages = cpu.ram.allocate(1);
    this.#command(PvscsiCommand.AdapterReset, []);
    if (!this.#setUp()) throw new ParavaneError("UNSUPPORTED", "the PVSCSI adapter refuses its rings");
    this.#releases.push(cpu.onInterrupt(view.interruptLine, () => this.#interrupt()));
    this.#write(PvscsiRegister.InterruptMask, PvscsiInterrupt.All);
  }

  /** Another disk uses it; the last one to `release` it stops it. */
  use(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users > 0 || this.#closed) return;
    this.#closed = true;
    this.#write(PvscsiRegister.InterruptMask, 0);
    this.#command(PvscsiCommand.AdapterReset, []);
    for (const release of this.#releases) release();
    this.rings.abandon();
    this.rings.free();
    this.#cpu.ram.free(this.#messages, 1);
  }

  /** Tells the device of what `rings.submit` has put on the ring. */
  kick(): void {
    if (!this.#pollFirst) {
      this.#write(PvscsiRegister.KickReadWrite, 0);
      return;
    }
    // What is completed may lead to more: whoever is at it already sees to that.
    this.#wanted = true;
    if (this.#kicking) return;
    this.#kicking = true;
    this.#cpu.cli();
    try {
      while (this.#wanted) {
        this.#wanted = false;
        this.#write(PvscsiRegister.KickReadWrite, 0);
        // Acknowledged before the ring is looked at: what comes afterwards interrupts.
        if (this.rings.hasCompletions) this.#write(PvscsiRegister.InterruptStatus, PvscsiInterrupt.Completion);
        this.#poll();
      }
    } finally {
      this.#kicking = false;
      this.#cpu.sti();
    }
  }

  /** A command that needs no disk's time. @throws ParavaneError IO when it has no answer at once */
  callNow(call: Omit<ScsiCall, "done">): ScsiResult {
    let result: ScsiResult | undefined;
    this.rings.submit({
      ...call,
      done(answer) {
        result = answer;
      },
    });
    this.kick();
    if (!result) throw new ParavaneError("IO", `target ${call.target} does not answer`, { target: call.target });
    return result;
  }

  #setUp(): boolean {
    const words = new Array(PvscsiSetupRings.Size / 4).fill(0);
    const { state, requests, completions, pages } = this.rings;
    const page = (address: number) => address / PvscsiPage.Size;
    words[PvscsiSetupRings.RequestPages / 4] = pages;
    words[PvscsiSetupRings.CompletionPages / 4] = pages;
    words[PvscsiSetupRings.State / 4] = page(state);
    for (let i = 0; i < pages; i++) {
      words[PvscsiSetupRings.Requests / 4 + 2 * i] = page(requests) + i;
      words[PvscsiSetupRings.Completions / 4 + 2 * i] = page(completions) + i;
    }
    if (this.#command(PvscsiCommand.SetupRings, words) !== PvscsiCommandStatus.Succeeded) return false;
    const messages = new Array(PvscsiSetupMessages.Size / 4).fill(0);
    messages[PvscsiSetupMessages.Pages / 4] = 1;
    messages[PvscsiSetupMessages.Ring / 4] = page(this.#messages);
    // An adapter of the first revision has no such ring, and then says nothing of what comes and goes.
    this.#command(PvscsiCommand.SetupMessageRing, messages);
    return true;
  }

  #command(command: PvscsiCommand, words: readonly number[]): number {
    this.#write(PvscsiRegister.Command, command);
    for (const word of words) this.#write(PvscsiRegister.CommandData, word);
    return this.#read(PvscsiRegister.CommandStatus);
  }

  #interrupt(): void {
    const causes = this.#read(PvscsiRegister.InterruptStatus);
    this.#write(PvscsiRegister.InterruptStatus, causes);
    if ((causes & PvscsiInterrupt.Completion) !== 0) this.#poll();
    if ((causes & PvscsiInterrupt.Message) !== 0) this.#takeMessages();
  }

  #poll(): void {
    if (this.rings.poll() < 0) {
      // It answers what it was not asked: nothing it says can be relied on.
      this.#users = 0;
      this.release();
    }
  }

  #takeMessages(): void {
    const { ram } = this.#cpu;
    const { state } = this.rings;
    while (ram.read32(state + PvscsiRings.MessageProducer) !== this.#messagesSeen) {
      const at = this.#messages + (this.#messagesSeen % (PvscsiPage.Size / PvscsiMessage.Size)) * PvscsiMessage.Size;
      const [type, target] = [ram.read32(at + PvscsiMessage.Type), ram.read32(at + PvscsiMessage.Target)];
      ram.write32(state + PvscsiRings.MessageConsumer, ++this.#messagesSeen);
      this.onMessage(type, target);
    }
  }

  #read(register: PvscsiRegister): number {
    return this.#cpu.load(this.#base + register, 4);
  }
  #write(register: PvscsiRegister, value: number): void {
    this.#cpu.store(this.#base + register, 4, value);
  }
}
