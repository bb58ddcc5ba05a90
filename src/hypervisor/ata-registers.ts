import type { AtaRegister } from "../../assembly/spec/ata.ts";
import type { Width } from "../core/machine.ts";

/**
 * The registers of one IDE channel, however they are reached: by trapping port accesses, as a guest of a virtual machine
 * must, or directly, as on bare hardware. Values are unsigned.
 */
export interface AtaRegisters {
  read(register: AtaRegister, width: Width): number;
  write(register: AtaRegister, width: Width, value: number): void;
  /** Legacy line that the channel's INTRQ is wired to. */
  readonly interruptLine: number;
}
