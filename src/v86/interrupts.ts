import type { InterruptLine } from "../core/machine.ts";
import type { V86Cpu } from "./internals.ts";

const LINES = 16;
/** EFLAGS.IF. */
const INTERRUPT_FLAG = 0x200;

/**
 * The sixteen lines to v86's interrupt controllers. v86 itself sets and clears a line with whatever device spoke last, so that
 * all of its devices count as one source here, beside each of ours; a line is low when none asserts it.
 */
export class V86Interrupts {
  readonly #cpu: V86Cpu;
  readonly #raise: (line: number) => void;
  readonly #lower: (line: number) => void;
  readonly #original: Pick<V86Cpu, "device_raise_irq" | "device_lower_irq">;
  /** Sources of ours that assert a line. */
  readonly #ours = new Uint16Array(LINES);
  /** Do v86's devices assert it? One bit a line. */
  #theirs = 0;
  #view: Uint32Array;
  readonly #flags: number;
  /** Above zero: the guest is in the middle of an instruction. */
  #inside = 0;

  constructor(cpu: V86Cpu) {
    this.#cpu = cpu;
    const { device_raise_irq, device_lower_irq } = cpu;
    this.#original = { device_raise_irq, device_lower_irq };
    this.#raise = device_raise_irq.bind(cpu);
    this.#lower = device_lower_irq.bind(cpu);
    this.#view = new Uint32Array(cpu.wasm_memory.buffer);
    this.#flags = cpu.flags.byteOffset >>> 2;
    cpu.device_raise_irq = (line) => {
      this.#theirs |= 1 << line;
      this.#raise(line);
    };
    cpu.device_lower_irq = (line) => {
      this.#theirs &= ~(1 << line);
      if (line >= LINES || this.#ours[line] === 0) this.#lower(line);
    };
  }

  /** A new source on the line that `route` names at that moment. */
  source(route: () => number): RoutedLine {
    let at = -1;
    const leave = () => {
      if (at < 0) return;
      const line = at;
      at = -1;
      this.#ours[line]--;
      this.#drive(line);
    };
    const enter = () => {
      const line = route() & 15;
      at = line;
      this.#ours[line]++;
      this.#drive(line);
    };
    return {
      set: (asserted) => {
        if (asserted === at >= 0) return;
        if (asserted) enter();
        else leave();
      },
      reroute: () => {
        if (at < 0 || at === (route() & 15)) return;
        leave();
        enter();
      },
    };
  }

  /**
   * What the guest is doing is a memory access, which v86 carries out in the middle of an instruction: an interrupt that was
   * taken here would lose the guest's place in its code.
   */
  enter(): void {
    this.#inside++;
  }
  leave(): void {
    this.#inside--;
  }

  /** Which lines v86's own devices assert, for a save. */
  get theirs(): number {
    return this.#theirs;
  }
  set theirs(lines: number) {
    this.#theirs = lines;
  }

  detach(): void {
    Object.assign(this.#cpu, this.#original);
  }

  #drive(line: number): void {
    const asserted = this.#ours[line] > 0 || (this.#theirs & (1 << line)) !== 0;
    if (this.#inside === 0) {
      if (asserted) this.#raise(line);
      else this.#lower(line);
      return;
    }
    // The controller takes note, the processor does not look at it: v86 does so by itself after a while, or on HLT.
    if (this.#view.length === 0) this.#view = new Uint32Array(this.#cpu.wasm_memory.buffer);
    const flags = this.#view[this.#flags];
    this.#view[this.#flags] = flags & ~INTERRUPT_FLAG;
    if (asserted) this.#raise(line);
    else this.#lower(line);
    this.#view[this.#flags] = flags;
  }
}

/** An interrupt wire behind a router that the guest programs. */
export interface RoutedLine extends InterruptLine {
  /** The router has been programmed: moves the level to where the wire leads now. */
  reroute(): void;
}
