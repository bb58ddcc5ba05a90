import {
  PvscsiCompletion,
  PvscsiMessage,
  PvscsiPage,
  PvscsiRequest,
  PvscsiRings,
} from "../../../../assembly/spec/pvscsi.ts";
import { PvscsiContext } from "../../../../assembly/spec/pvscsi-context.ts";
import type { GuestMemory } from "../../../core/machine.ts";
import { type Core, coreFor } from "../../../wasm/core.ts";

/** Descriptors. */
export const PER_PAGE = {
  requests: PvscsiPage.Size / PvscsiRequest.Size,
  completions: PvscsiPage.Size / PvscsiCompletion.Size,
  messages: PvscsiPage.Size / PvscsiMessage.Size,
};

/** Where the rings are and how far they have got; addresses are guest-physical. Plain data. */
export interface RingsState {
  state: number;
  requests: number[];
  completions: number[];
  messages: number[];
  consumed: number;
  completed: number;
  sent: number;
}

/** The rings' context in the core (assembly/spec/pvscsi-context.ts), set up from what the guest has written and saved. */
export class RingContext {
  readonly core: Core;
  readonly address: number;
  readonly #memory: GuestMemory;

  /** @throws ParavaneError NO_SPACE */
  constructor(memory: GuestMemory) {
    this.#memory = memory;
    this.core = coreFor(memory.wasm);
    this.address = memory.reserve(PvscsiContext.Size);
    this.clear();
  }

  get(field: PvscsiContext): number {
    return this.core.u32[(this.address + field) >>> 2];
  }
  set(field: PvscsiContext, value: number): void {
    this.core.u32[(this.address + field) >>> 2] = value;
  }

  get ready(): boolean {
    return this.get(PvscsiContext.State) !== 0;
  }

  clear(): void {
    this.core.u8.fill(0, this.address, this.address + PvscsiContext.Size);
    this.set(PvscsiContext.RamBase, this.#memory.base);
    this.set(PvscsiContext.RamSize, this.#memory.size);
  }

  /** SETUP_RINGS, page numbers; false when one of them lies outside RAM, and then there are no rings. */
  setUp(state: number, requests: readonly number[], completions: readonly number[]): boolean {
    this.clear();
    const address = this.#pages([state])?.[0];
    const requestPages = this.#pages(requests);
    const completionPages = this.#pages(completions);
    if (address === undefined || !requestPages || !completionPages) return false;
    this.set(PvscsiContext.State, address);
    this.#write(PvscsiContext.RequestPages, requestPages);
    this.#write(PvscsiContext.CompletionPages, completionPages);
    this.set(PvscsiContext.RequestEntries, requests.length * PER_PAGE.requests);
    this.set(PvscsiContext.CompletionEntries, completions.length * PER_PAGE.completions);
    this.#announce(PvscsiRings.RequestProducer, this.get(PvscsiContext.RequestEntries));
    this.#announce(PvscsiRings.CompletionProducer, this.get(PvscsiContext.CompletionEntries));
    return true;
  }

  /** SETUP_MSG_RING, the same; there must be rings already. */
  setUpMessages(pages: readonly number[]): boolean {
    const found = this.#pages(pages);
    if (!found || !this.ready) return false;
    this.#write(PvscsiContext.MessagePages, found);
    this.set(PvscsiContext.Messages, 0);
    this.set(PvscsiContext.MessageEntries, pages.length * PER_PAGE.messages);
    this.#announce(PvscsiRings.MessageProducer, this.get(PvscsiContext.MessageEntries));
    return true;
  }

  save(): RingsState | null {
    if (!this.ready) return null;
    const { base } = this.#memory;
    const read = (field: PvscsiContext, count: number) =>
      Array.from({ length: count }, (_, i) => this.get(field + 4 * i) - base);
    return {
      state: this.get(PvscsiContext.State) - base,
      requests: read(PvscsiContext.RequestPages, this.get(PvscsiContext.RequestEntries) / PER_PAGE.requests),
      completions: read(
        PvscsiContext.CompletionPages,
        this.get(PvscsiContext.CompletionEntries) / PER_PAGE.completions,
      ),
      messages: read(PvscsiContext.MessagePages, this.get(PvscsiContext.MessageEntries) / PER_PAGE.messages),
      consumed: this.get(PvscsiContext.Consumed),
      completed: this.get(PvscsiContext.Completed),
      sent: this.get(PvscsiContext.Messages),
    };
  }

  /** Guest memory holds the rings already, as they were. The state has been checked (save.ts). */
  restore(saved: RingsState | null, inFlight: number): void {
    this.clear();
    if (!saved) return;
    const { base } = this.#memory;
    const linear = (addresses: readonly number[]) => addresses.map((address) => base + address);
    this.set(PvscsiContext.State, base + saved.state);
    this.#write(PvscsiContext.RequestPages, linear(saved.requests));
    this.#write(PvscsiContext.CompletionPages, linear(saved.completions));
    this.#write(PvscsiContext.MessagePages, linear(saved.messages));
    this.set(PvscsiContext.RequestEntries, saved.requests.length * PER_PAGE.requests);
    this.set(PvscsiContext.CompletionEntries, saved.completions.length * PER_PAGE.completions);
    this.set(PvscsiContext.MessageEntries, saved.messages.length * PER_PAGE.messages);
    this.set(PvscsiContext.Consumed, saved.consumed);
    this.set(PvscsiContext.Completed, saved.completed);
    this.set(PvscsiContext.Messages, saved.sent);
    this.set(PvscsiContext.InFlight, inFlight);
  }

  /** Linear addresses of pages, or null when one is not RAM. They will be written to from here on. */
  #pages(numbers: readonly number[]): number[] | null {
    const { base, size } = this.#memory;
    const found: number[] = [];
    for (const number of numbers) {
      const address = number * PvscsiPage.Size;
      if (address + PvscsiPage.Size > size) return null;
      this.#memory.touch(base + address, PvscsiPage.Size);
      found.push(base + address);
    }
    return found;
  }

  #write(field: PvscsiContext, addresses: readonly number[]): void {
    addresses.forEach((address, i) => {
      this.set(field + 4 * i, address);
    });
  }

  /** Producer and consumer index zero, and the ring's size: three words of the rings state. */
  #announce(field: PvscsiRings, entries: number): void {
    const at = (this.get(PvscsiContext.State) + field) >>> 2;
    this.core.u32[at] = 0;
    this.core.u32[at + 1] = 0;
    this.core.u32[at + 2] = Math.log2(entries);
  }
}
