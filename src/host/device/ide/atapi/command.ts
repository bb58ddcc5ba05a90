import type { PacketOp } from "../../../../../assembly/spec/mmc.ts";
import type { Flow } from "../../../../core/flow.ts";
import type { Answer } from "./answer.ts";
import type { CdUnit } from "./unit.ts";

/**
 * A packet command: what its twelve bytes say is decoded apart from what is done about it. `decode` is pure, and answers
 * with the command's arguments or, when the bytes can mean nothing, with why.
 */
export interface PacketCommand<A = unknown> {
  readonly code: PacketOp;
  /** In the specification's words. */
  readonly name: string;
  /** Carried out although a unit attention is pending (MMC-6, SPC-3). */
  readonly always?: boolean;
  /** NOT READY without a medium. */
  readonly medium?: boolean;
  /** Ends an audio play: the head has to go elsewhere (MMC-3). */
  readonly moves?: boolean;
  decode(packet: Uint8Array): Decoded<A>;
  execute(unit: CdUnit, args: A): Answer | Flow<Answer>;
  /** Takes the parameter list that `execute` has asked for. */
  accept?(unit: CdUnit, args: A, list: Uint8Array): Answer;
}

export type Decoded<A> = { args: A } | { refusal: Answer };

/** Forgets the argument type, for the table. */
export function command<A>(definition: PacketCommand<A>): PacketCommand {
  return definition as PacketCommand;
}

export function args<A>(value: A): Decoded<A> {
  return { args: value };
}

export function refuse(refusal: Answer): { refusal: Answer } {
  return { refusal };
}

/** For commands whose bytes say nothing that matters. */
export function nothing(): Decoded<null> {
  return { args: null };
}
