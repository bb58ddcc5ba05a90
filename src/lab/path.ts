import { type Block, BlockRequest, Op, Status } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import { Hypervisor } from "../hypervisor/hypervisor.ts";
import { type ModelName, modelOf } from "./models.ts";
import { hypercallName, mmioName, portName, registerName } from "./names.ts";
import { ObservedBlock, type ObservedStore } from "./observe.ts";
import { type Pace, Session } from "./session.ts";

/** Where a step happens. */
export type Layer = "application" | "guest driver" | "hypervisor" | "device" | "host file";

export type StepKind =
  | "call" // the next layer is asked, or answers
  | "register" // a device register, reached without a trap
  | "in" // port read: exit
  | "out" // port write: exit
  | "load" // memory-mapped read: exit
  | "store" // memory-mapped write: exit
  | "hypercall" // exit
  | "shared" // bytes written in memory that guest and host share: descriptors, rings, status
  | "copy" // bytes of data moved
  | "interrupt";

/** One step of a request's way; `bytes` and `value` where the kind has them. */
export interface Step {
  layer: Layer;
  kind: StepKind;
  what: string;
  bytes?: number;
  value?: number;
}

/** The way of one read of 4 KiB through a model, as it was observed. */
export interface Path {
  model: ModelName;
  title: string;
  /** What "device" is in this model. */
  device: string;
  steps: Step[];
  exits: number;
  /** Device registers touched, trapping or not. */
  registers: number;
  interrupts: number;
  /** Bytes of descriptors, ring entries and answers in shared memory. */
  shared: number;
  /** Bytes of data moved on the host. */
  copied: number;
}

const BYTES = 4096;
/** Little RAM, because it is compared with what it was at every step. */
const MEMORY = 4 << 20;

/** Follows one read of 4 KiB at byte `offset` of the disk through `model`. */
export async function tracePath(
  model: ModelName,
  disk: Block,
  offset: number,
  pace: Pace,
  store: ObservedStore | undefined,
): Promise<Path> {
  const tracer = new Tracer();
  const observed = new ObservedBlock(disk, (batch) => tracer.asked(batch));
  const session = await Session.open(model, observed, {
    hypervisor: new Hypervisor(),
    memory: MEMORY,
    pace,
    onRegister: (kind, register, width, value) => {
      const name = registerName(register, kind === "write");
      tracer.access("register", name, kind === "write", width, value);
    },
  });
  const { machine, layer } = session;
  const { ram } = machine.guest;
  try {
    const request = new BlockRequest();
    request.offset = offset;
    request.length = BYTES;
    request.segments.push(ram.allocate(1), BYTES);
    tracer.watch(ram.bytes(0, ram.size), request.segments.start(0));
    machine.trap.trace = (kind, address, width, value) => {
      if (kind === "hypercall") tracer.hypercall(address);
      else if (kind === "in" || kind === "out") {
        tracer.access(kind, `${hex(address)} ${portName(address, kind === "out")}`, kind === "out", width, value);
      } else tracer.access(kind, `${hex(address)} ${mmioName(address)}`, kind === "store", width, value);
    };
    machine.trap.interrupts.trace = (line) => tracer.interrupt(line);
    if (store) store.trace = (kind, position, length) => tracer.transfer(kind, position, length);
    tracer.call(`asks for ${BYTES} bytes at byte ${offset} of the disk`);
    await pace.wait(layer.submit([request]), `${model}: one read`);
    tracer.call("has its data");
    tracer.stop();
    machine.trap.trace = null;
    machine.trap.interrupts.trace = null;
    if (request.status !== Status.Ok) {
      throw new ParavaneError("IO", `${model}: the read that was to be traced failed`, { offset });
    }
  } finally {
    if (store) store.trace = null;
    await session.close();
  }
  const { title, device } = modelOf(model);
  return { model, title, device, steps: tracer.steps, ...tracer.totals() };
}

/** Writes down what it is told, and what it finds changed in the guest's memory in between. */
class Tracer {
  readonly steps: Step[] = [];
  /** The guest's memory, once the read that is to be followed begins. */
  #ram: Uint32Array<ArrayBuffer> | null = null;
  #before = new Uint32Array(0);
  /** The request's own buffer, in words of `#ram`. */
  #buffer = 0;
  #last = "";
  /** Who runs now: what changed in memory is theirs. */
  #running: "guest driver" | "device" = "guest driver";
  #answered = false;

  /** @param buffer where in `ram` the data goes */
  watch(ram: Uint8Array, buffer: number): void {
    this.#ram = new Uint32Array(ram.buffer as ArrayBuffer, ram.byteOffset, ram.length / 4);
    this.#before = this.#ram.slice();
    this.#buffer = buffer / 4;
  }

  /** The application asks, or has its answer. */
  call(what: string): void {
    this.#settle();
    this.steps.push({ layer: "application", kind: "call", what });
  }

  /** The read is over; what follows is no part of it. */
  stop(): void {
    this.#settle();
    this.#ram = null;
  }

  access(kind: StepKind, name: string, write: boolean, width: number, value: number): void {
    if (!this.#ram) return;
    // The data port a word at a time: memory is looked at when the run is over.
    const same = `${kind} ${name}`;
    if (same !== this.#last) this.#settle();
    this.#last = same;
    const layer = kind === "register" ? "guest driver" : "hypervisor";
    const what = write ? `${name} ← ${hex(value)}` : `${name} → ${hex(value)}`;
    this.steps.push({ layer, kind, what: name.endsWith("Data") ? name : what, bytes: width, value });
    this.#running = write ? "device" : "guest driver";
  }

  hypercall(code: number): void {
    this.#settle();
    this.steps.push({ layer: "hypervisor", kind: "hypercall", what: hypercallName(code) });
    this.#running = "device";
  }

  interrupt(line: number): void {
    this.#settle();
    this.steps.push({ layer: "hypervisor", kind: "interrupt", what: `interrupt on line ${line}` });
    this.#running = "guest driver";
    this.#answered = true;
  }

  asked(batch: readonly BlockRequest[]): void {
    if (!this.#ram) return;
    this.#settle();
    this.#running = "device";
    for (const { op, offset, length, segments } of batch) {
      const where = segments.count === 1 ? "one run of guest memory" : `${segments.count} runs of guest memory`;
      const what = `${op === Op.Read ? "read" : "write"} ${length} bytes at byte ${offset}, ${where}`;
      this.steps.push({ layer: "device", kind: "call", what });
    }
  }

  transfer(kind: string, position: number, length: number): void {
    const what = kind === "flush" ? "flush" : `${kind} of ${length} bytes at byte ${position}`;
    this.steps.push({ layer: "host file", kind: "copy", what, bytes: length });
  }

  totals(): Omit<Path, "model" | "title" | "device" | "steps"> {
    const count = (...kinds: StepKind[]) => this.steps.filter(({ kind }) => kinds.includes(kind)).length;
    const bytes = (steps: Step[]) => steps.reduce((sum, step) => sum + (step.bytes ?? 0), 0);
    const port = this.steps.filter(({ kind, what }) => kind === "in" && what.endsWith("Data"));
    return {
      exits: count("in", "out", "load", "store", "hypercall"),
      registers: count("register", "in", "out", "load", "store"),
      interrupts: count("interrupt"),
      shared: bytes(this.steps.filter(({ kind }) => kind === "shared")),
      copied: bytes(this.steps.filter(({ kind }) => kind === "copy")) + bytes(port),
    };
  }

  /** Looks for what has changed in the guest's memory since the last look. */
  #settle(): void {
    this.#last = "";
    const ram = this.#ram!;
    const before = this.#before;
    const end = this.#buffer + BYTES / 4;
    let bytes = 0;
    for (let i = 0; i < ram.length; i++) {
      if (ram[i] === before[i]) continue;
      before[i] = ram[i];
      if (i < this.#buffer || i >= end) bytes += 4;
    }
    if (bytes === 0) return;
    this.steps.push({ layer: this.#running, kind: "shared", what: this.#means(), bytes });
  }

  #means(): string {
    if (this.#running === "device") return "writes its side of shared memory";
    return this.#answered ? "takes the answer from shared memory" : "describes the request in shared memory";
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).toUpperCase()}`;
}
