import {
  PvscsiAbort,
  PvscsiCommand,
  PvscsiConfig,
  PvscsiLimit,
  PvscsiResetDevice,
  PvscsiSetupMessages,
  PvscsiSetupRings,
} from "../../../../assembly/spec/pvscsi.ts";

/** A command with all of its descriptor. Page numbers and addresses are guest-physical, and not looked at yet. */
export type AdapterCommand =
  | { kind: "reset adapter" | "reset bus" }
  | { kind: "reset device"; target: number }
  | { kind: "abort"; target: number; context: readonly [low: number, high: number] }
  | { kind: "rings"; state: number; requests: readonly number[]; completions: readonly number[] }
  | { kind: "messages"; pages: readonly number[] }
  | { kind: "config"; address: number; pageAddress: number; page: number }
  /** No command of this adapter, or a descriptor that breaks a rule. */
  | { kind: "refused" };

/** Words of each command's descriptor. What the others would be given is not public. */
const WORDS: Partial<Record<number, number>> = {
  [PvscsiCommand.AdapterReset]: 0,
  [PvscsiCommand.SetupRings]: PvscsiSetupRings.Size / 4,
  [PvscsiCommand.ResetBus]: 0,
  [PvscsiCommand.ResetDevice]: PvscsiResetDevice.Size / 4,
  [PvscsiCommand.AbortCommand]: PvscsiAbort.Size / 4,
  [PvscsiCommand.Config]: PvscsiConfig.Size / 4,
  [PvscsiCommand.SetupMessageRing]: PvscsiSetupMessages.Size / 4,
};

/** The command and command data registers: a command, then its descriptor word by word. */
export class CommandPort {
  command = 0;
  words: number[] = [];

  /** Words of the descriptor that are missing. */
  get missing(): number {
    return (WORDS[this.command] ?? 0) - this.words.length;
  }

  /** The command register: what was begun before is forgotten. */
  begin(command: number): AdapterCommand | null {
    this.command = command;
    this.words = [];
    return this.#take();
  }

  /** The command data register. Words that nobody waits for are dropped. */
  data(word: number): AdapterCommand | null {
    if (this.missing <= 0) return null;
    this.words.push(word);
    return this.#take();
  }

  #take(): AdapterCommand | null {
    if (this.missing > 0) return null;
    const { command, words } = this;
    this.command = 0;
    this.words = [];
    return decode(command, words);
  }
}

/** Pure. */
function decode(command: number, words: readonly number[]): AdapterCommand {
  const word = (at: number) => words[at / 4];
  switch (command) {
    case PvscsiCommand.AdapterReset:
      return { kind: "reset adapter" };
    case PvscsiCommand.ResetBus:
      return { kind: "reset bus" };
    case PvscsiCommand.ResetDevice:
      return { kind: "reset device", target: word(PvscsiResetDevice.Target) };
    case PvscsiCommand.AbortCommand:
      return { kind: "abort", target: word(PvscsiAbort.Target), context: [words[0], words[1]] };
    case PvscsiCommand.Config:
      return {
        kind: "config",
        address: wide(words, PvscsiConfig.Address),
        pageAddress: word(PvscsiConfig.PageAddress + 4),
        page: word(PvscsiConfig.PageNumber),
      };
    case PvscsiCommand.SetupRings: {
      const requests = pages(
        words,
        word(PvscsiSetupRings.RequestPages),
        PvscsiSetupRings.Requests,
        PvscsiLimit.RingPages,
      );
      const completions = pages(
        words,
        word(PvscsiSetupRings.CompletionPages),
        PvscsiSetupRings.Completions,
        PvscsiLimit.RingPages,
      );
      if (!requests || !completions) return { kind: "refused" };
      return { kind: "rings", state: wide(words, PvscsiSetupRings.State), requests, completions };
    }
    case PvscsiCommand.SetupMessageRing: {
      const found = pages(words, word(PvscsiSetupMessages.Pages), PvscsiSetupMessages.Ring, PvscsiLimit.MessagePages);
      return found ? { kind: "messages", pages: found } : { kind: "refused" };
    }
    default:
      return { kind: "refused" };
  }
}

/** A 64-bit field; past 2^53 inexact, and no address of any memory. */
function wide(words: readonly number[], at: number): number {
  return words[at / 4 + 1] * 2 ** 32 + words[at / 4];
}

/** A ring's page numbers: a power of two of them, none too many; else null. */
function pages(words: readonly number[], count: number, at: number, most: number): number[] | null {
  if (count === 0 || count > most || (count & (count - 1)) !== 0) return null;
  return Array.from({ length: count }, (_, i) => wide(words, at + 8 * i));
}
