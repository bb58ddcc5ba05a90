import type { Block } from "../core/block.ts";
import { ParavaneError } from "../core/error.ts";
import type { Flow } from "../core/flow.ts";
import { BlockLayer } from "../guest/block-layer.ts";
import type { Hypervisor } from "../hypervisor/hypervisor.ts";
import type { LabMachine } from "../hypervisor/machine.ts";
import { type Attached, MODELS, type ModelName, type RegisterTrace } from "./models.ts";

/** Milliseconds between two looks at the rest of the world: timers, a page's buttons, Ctrl-C. */
const BREATH = 30;

export interface PaceOptions {
  signal?: AbortSignal | undefined;
  /** Milliseconds that anything may take to complete before the lab gives it up. */
  patience: number;
}

/** Runs flows to their end while the rest of the world goes on. */
export class Pace {
  readonly #options: PaceOptions;
  #last = performance.now();

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** @throws ParavaneError ABORTED; IO when something does not complete in time; and what the flow throws */
  async run<T>(flow: Flow<T>, what: string): Promise<T> {
    try {
      for (;;) {
        const step = flow.next();
        if (step.done) return step.value;
        await this.wait(step.value, what);
      }
    } finally {
      flow.return(undefined as T);
    }
  }

  /** For a flow to yield now and then; undefined while there is no need. */
  breathe(): Promise<unknown> | undefined {
    const now = performance.now();
    if (now - this.#last < BREATH) return undefined;
    return new Promise((resolve) => setTimeout(resolve)).then(() => {
      this.#last = performance.now();
      this.check();
    });
  }

  /** @throws ParavaneError ABORTED */
  check(): void {
    const { signal } = this.#options;
    if (signal?.aborted) throw new ParavaneError("ABORTED", "stopped", {}, { cause: signal.reason });
  }

  async wait<T>(pending: T | Promise<T>, what: string): Promise<T> {
    if (!(pending instanceof Promise)) return pending;
    const { patience } = this.#options;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(new ParavaneError("IO", `${what} did not complete in ${patience / 1000} seconds`));
      }, patience);
    });
    try {
      return await Promise.race([pending, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

/** One guest with the disk plugged in through one model, its driver loaded. */
export class Session {
  readonly model: ModelName;
  readonly machine: LabMachine;
  readonly layer: BlockLayer;
  readonly #hypervisor: Hypervisor;
  readonly #attached: Attached;
  readonly #pace: Pace;

  /**
   * Boots a machine with `memory` bytes of RAM, one more guest of `hypervisor`.
   * @throws ParavaneError when the driver does not find its disk
   */
  static async open(
    model: ModelName,
    disk: Block,
    options: { hypervisor: Hypervisor; memory: number; pace: Pace; onRegister?: RegisterTrace },
  ): Promise<Session> {
    const { hypervisor } = options;
    const machine = hypervisor.createMachine({ memory: options.memory });
    const attaching = MODELS[model].attach({ hypervisor, machine }, disk, options.onRegister ?? null);
    const attached = await options.pace.wait(attaching, `${model}: finding the disk`);
    const { size } = attached.driver;
    if (size !== disk.size) {
      throw new ParavaneError("PROTOCOL", `${model}: the driver sees ${size} bytes of a disk of ${disk.size}`);
    }
    return new Session(model, hypervisor, machine, attached, options.pace);
  }

  private constructor(model: ModelName, hypervisor: Hypervisor, machine: LabMachine, attached: Attached, pace: Pace) {
    this.model = model;
    this.#hypervisor = hypervisor;
    this.machine = machine;
    this.layer = new BlockLayer(attached.driver);
    this.#attached = attached;
    this.#pace = pace;
  }

  /** Bytes the device itself has copied, besides what its block did. */
  get copied(): number {
    return this.#attached.copied();
  }

  async close(): Promise<void> {
    this.#attached.driver.close();
    await this.#pace.wait(this.#attached.close(), `${this.model}: unplugging the disk`);
    this.#hypervisor.destroy(this.machine);
  }
}
