import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  PvscsiCommand,
  PvscsiCompletion,
  PvscsiElement,
  PvscsiInterrupt,
  PvscsiRegister,
  PvscsiRequest,
  PvscsiRings,
  PvscsiSetupRings,
} from "../../assembly/spec/pvscsi.ts";
import { attachPvscsi } from "../../src/host/device/pvscsi/attach.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";
import { FakeBlock } from "./fake-block.ts";
import type { PvscsiBatch, PvscsiStep } from "./pvscsi-program.ts";
import { Qtest } from "./qtest.ts";

/** Bytes of each disk, by target; the last one is read-only. */
export const DISKS = [1 << 20, 1 << 20];
export const READ_ONLY = 1;

/** Where things are in both guests; guest-physical, above what a PC keeps for itself. */
const PLACE = {
  state: 0x200000,
  requests: 0x210000,
  completions: 0x220000,
  lists: 0x230000,
  sense: 0x240000,
  data: 0x300000,
};
/** Bytes of data and of sense for each request of a batch. */
export const WINDOW = 16384;
const SENSE = 64;
const BASE = 0xf2000000;
/** What guest memory holds where nothing was put. */
const BLANK = 0xcc;

/** All that a guest can see of a batch. */
export interface Seen {
  /** By context: statuses, bytes, sense. */
  completions: Map<number, { host: number; status: number; bytes: number; sense: string }>;
  data: Uint8Array;
  /** Interrupt status, command status, line, indices. */
  registers: number[];
}

/** Either side: memory and registers. */
interface Side {
  put(address: number, bytes: Uint8Array): void;
  write(register: number, value: number): void;
  /** Everything up to now is done; then these ranges of memory and these registers, as they are. */
  look(ranges: readonly [address: number, length: number][], registers: readonly number[]): Look;
}

interface Look {
  memory: Uint8Array[];
  registers: number[];
  line: boolean;
}

function original(target: number): Uint8Array {
  return new Uint8Array(DISKS[target]).map((_, i) => (i * 7 + (i >>> 9) * 13 + target * 101 + (i >>> 17)) & 255);
}

abstract class Driver {
  protected abstract readonly side: Side;
  #produced = 0;
  #consumed = 0;

  /** Adapter reset, rings of one page, no unit attention. */
  start(): void {
    const { side } = this;
    const words = new Uint32Array(PvscsiSetupRings.Size / 4);
    words[PvscsiSetupRings.RequestPages / 4] = 1;
    words[PvscsiSetupRings.CompletionPages / 4] = 1;
    words[PvscsiSetupRings.State / 4] = PLACE.state >>> 12;
    words[PvscsiSetupRings.Requests / 4] = PLACE.requests >>> 12;
    words[PvscsiSetupRings.Completions / 4] = PLACE.completions >>> 12;
    side.write(PvscsiRegister.Command, PvscsiCommand.AdapterReset);
    side.write(PvscsiRegister.Command, PvscsiCommand.SetupRings);
    for (const word of words) side.write(PvscsiRegister.CommandData, word);
    side.write(PvscsiRegister.InterruptStatus, 15);
    side.write(PvscsiRegister.InterruptMask, PvscsiInterrupt.Completion);
    this.#produced = this.#consumed = 0;
  }

  run(batch: PvscsiBatch, seed: number): Seen {
    const { side } = this;
    side.put(PLACE.data, new Uint8Array(batch.steps.length * WINDOW).fill(BLANK));
    side.put(PLACE.sense, new Uint8Array(batch.steps.length * SENSE).fill(BLANK));
    if (batch.command) {
      side.write(PvscsiRegister.Command, batch.command[0]);
      for (const word of batch.command.slice(1)) side.write(PvscsiRegister.CommandData, word);
    }
    batch.steps.forEach((step, i) => {
      this.#push(step, i, seed);
    });
    side.put(PLACE.state + PvscsiRings.RequestProducer, word(this.#produced));
    side.write(batch.other ? PvscsiRegister.KickOther : PvscsiRegister.KickReadWrite, 0);
    return this.#look(batch, seed);
  }

  /** Waits until that many commands are completed; false when they never are. */
  protected abstract settle(completions: number): boolean;

  #push(step: PvscsiStep, index: number, seed: number): void {
    const bytes = new Uint8Array(PvscsiRequest.Size);
    const view = new DataView(bytes.buffer);
    const at = PLACE.data + index * WINDOW;
    if (step.out) this.side.put(at, step.out);
    view.setUint32(PvscsiRequest.Context, seed * 16 + index, true);
    view.setUint32(PvscsiRequest.Context + 4, step.contextHigh, true);
    let address = at;
    if (step.list) {
      address = PLACE.lists + index * 4096;
      const list = new Uint8Array(step.list.length * PvscsiElement.Size);
      const elements = new DataView(list.buffer);
      step.list.forEach(([offset, length], i) => {
        elements.setUint32(i * PvscsiElement.Size, at + offset, true);
        elements.setUint32(i * PvscsiElement.Size + PvscsiElement.Length, length, true);
      });
      this.side.put(address, list);
    }
    view.setUint32(PvscsiRequest.DataAddress, address, true);
    view.setUint32(PvscsiRequest.DataLength, step.length, true);
    view.setUint32(PvscsiRequest.SenseAddress, PLACE.sense + index * SENSE, true);
    view.setUint32(PvscsiRequest.SenseLength, step.senseLength, true);
    view.setUint32(PvscsiRequest.Flags, step.flags | (step.list ? 1 : 0), true);
    bytes.set(step.cdb, PvscsiRequest.Cdb);
    bytes[PvscsiRequest.CdbLength] = step.cdb.length;
    bytes[PvscsiRequest.Lun + 1] = step.lun;
    bytes[PvscsiRequest.Target] = step.target;
    this.side.put(PLACE.requests + (this.#produced % 32) * PvscsiRequest.Size, bytes);
    this.#produced++;
  }

  #look(batch: PvscsiBatch, seed: number): Seen {
    const { side } = this;
    const complete = this.settle(this.#consumed + batch.steps.length);
    const looked = side.look(
      [
        [PLACE.completions, 4096],
        [PLACE.state, 28],
        [PLACE.sense, batch.steps.length * SENSE],
        [PLACE.data, batch.steps.length * WINDOW],
      ],
      [PvscsiRegister.InterruptStatus, PvscsiRegister.CommandStatus],
    );
    const [ring, state, senses, data] = looked.memory;
    const view = new DataView(ring.buffer, ring.byteOffset);
    const indices = new DataView(state.buffer, state.byteOffset);
    const seen: Seen = {
      completions: new Map(),
      data,
      registers: [
        complete ? 1 : 0,
        ...looked.registers,
        looked.line ? 1 : 0,
        ...[0, 4, 8, 12, 16, 20, 24].map((at) => indices.getUint32(at, true)),
      ],
    };
    const end = indices.getUint32(PvscsiRings.CompletionProducer, true);
    for (; this.#consumed !== end && seen.completions.size < 32; this.#consumed++) {
      const at = (this.#consumed % 128) * PvscsiCompletion.Size;
      const context = view.getUint32(at, true);
      const from = (context - seed * 16) * SENSE;
      seen.completions.set(context, {
        host: view.getUint16(at + PvscsiCompletion.HostStatus, true),
        status: view.getUint16(at + PvscsiCompletion.ScsiStatus, true),
        bytes: view.getUint32(at + PvscsiCompletion.DataLength, true),
        sense: Buffer.from(
          senses.subarray(from, from + view.getUint32(at + PvscsiCompletion.SenseLength, true)),
        ).toString("hex"),
      });
    }
    side.put(PLACE.state + PvscsiRings.CompletionConsumer, word(this.#consumed));
    side.write(PvscsiRegister.InterruptStatus, 15);
    return seen;
  }
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

/** Our adapter. */
export class OurAdapter extends Driver {
  readonly disks: FakeBlock[];
  protected readonly side: Side;

  constructor() {
    super();
    const machine = new LabMachine({ memory: 8 << 20 });
    this.disks = DISKS.map((size, target) => new FakeBlock(size, { readOnly: target === READ_ONLY }));
    attachPvscsi(machine, {
      interrupt: 11,
      memory: BASE,
      slot: 5,
      disks: this.disks.map((block, i) => ({
        block,
        vendor: "QEMU",
        product: "QEMU HARDDISK",
        revision: "2.5+",
        serial: `SERIAL${i}`,
      })),
    });
    machine.guest.out(0xcf8, 4, 0x80002804);
    machine.guest.out(0xcfc, 2, 7);
    const { ram } = machine.guest;
    this.side = {
      put: (address, bytes) => ram.bytes(address, bytes.length).set(bytes),
      write: (register, value) => machine.guest.store(BASE + register, 4, value),
      look: (ranges, registers) => ({
        memory: ranges.map(([address, length]) => ram.bytes(address, length).slice()),
        registers: registers.map((register) => machine.guest.load(BASE + register, 4)),
        line: machine.trap.interrupts.level(11),
      }),
    };
  }

  protected settle(): boolean {
    return true;
  }

  restore(): void {
    for (const [target, disk] of this.disks.entries()) disk.bytes.set(original(target));
  }
}

/** QEMU's, over qtest. */
export class QemuAdapter extends Driver {
  readonly qtest: Qtest;
  protected readonly side: Side;
  readonly #folder = mkdtempSync(join(tmpdir(), "paravane-pvscsi-"));
  readonly #files: number[];

  constructor(seconds: number) {
    super();
    const args = ["-device", "pvscsi,id=s,addr=5"];
    this.#files = DISKS.map((size, target) => {
      const path = join(this.#folder, `disk${target}`);
      const file = openSync(path, "w+");
      ftruncateSync(file, size);
      const readOnly = target === READ_ONLY ? ",readonly=on" : "";
      args.push("-drive", `if=none,id=d${target},format=raw,discard=unmap,file=${path}${readOnly}`);
      args.push("-device", `scsi-hd,bus=s.0,scsi-id=${target},drive=d${target},serial=SERIAL${target}`);
      return file;
    });
    this.restore();
    const qtest = new Qtest(args, seconds);
    this.qtest = qtest;
    const out = (port: number, value: number) => qtest.command(`outl ${port} ${value}`);
    out(0xcf8, 0x80002810);
    out(0xcfc, BASE);
    out(0xcf8, 0x80002804);
    out(0xcfc, 7);
    // PIIX3, PIRQRC: all four PCI interrupts are IRQ 11.
    out(0xcf8, 0x80000860);
    out(0xcfc, 0x0b0b0b0b);
    this.side = {
      put: (address, bytes) => {
        // A line must fit into the pipe.
        for (let at = 0; at < bytes.length; at += 16384) {
          const part = Buffer.from(bytes.subarray(at, at + 16384));
          qtest.send(`b64write ${address + at} ${part.length} ${part.toString("base64")}`);
        }
      },
      write: (register, value) => qtest.send(`writel ${BASE + register} ${value}`),
      look: (ranges, registers) => {
        for (const [address, length] of ranges) qtest.send(`b64read ${address} ${length}`);
        for (const register of registers) qtest.send(`readl ${BASE + register}`);
        const answers: string[] = [];
        qtest.flush((answer) => answers.push(answer));
        const looked = answers.slice(answers.length - ranges.length - registers.length);
        return {
          memory: looked.slice(0, ranges.length).map((text) => new Uint8Array(Buffer.from(text, "base64"))),
          registers: looked.slice(ranges.length).map(Number),
          line: qtest.levels[11] === 1,
        };
      },
    };
  }

  protected settle(completions: number): boolean {
    const at = PLACE.state + PvscsiRings.CompletionProducer;
    // A machine that is busy may keep QEMU's I/O waiting.
    for (const end = Date.now() + 10_000; Date.now() < end; ) {
      if (Number(this.qtest.command(`readl ${at}`)) >= completions) return true;
    }
    return false;
  }

  restore(): void {
    for (const [target, file] of this.#files.entries()) writeSync(file, original(target), 0, DISKS[target], 0);
  }

  disk(target: number): Uint8Array {
    const bytes = new Uint8Array(DISKS[target]);
    readSync(this.#files[target], bytes, 0, bytes.length, 0);
    return bytes;
  }

  close(): void {
    this.qtest.close();
    for (const file of this.#files) closeSync(file);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
