import { XenbusState } from "../../../assembly/spec/xen.ts";
import { ParavaneError } from "../../core/error.ts";
import type { Release } from "../../core/machine.ts";

/** What both a host's XenstoreClient and a guest's trapping one offer. */
export interface XenbusStore {
  get(path: string): string | undefined;
  number(path: string, otherwise: number): number;
  write(path: string, value: string | number): void;
  watch(path: string, call: (path: string) => void): Release;
}

/**
 * One end of a paravirtual device: its own directory, the other end's, and the states in which they meet (io/xenbus.h).
 *
 *     Initialising → InitWait → Initialised → Connected → Closing → Closed
 */
export class XenbusEnd<S extends XenbusStore = XenbusStore> {
  readonly store: S;
  readonly path: string;
  readonly otherPath: string;
  #state: XenbusState = XenbusState.Unknown;

  constructor(store: S, path: string, otherPath: string) {
    this.store = store;
    this.path = path;
    this.otherPath = otherPath;
  }

  /** The state this end has last announced. */
  get state(): XenbusState {
    return this.#state;
  }
  /** The state of the other end; Unknown when its directory is gone or says nonsense. */
  get otherState(): XenbusState {
    return this.other("state", XenbusState.Unknown);
  }

  /** Announces `state`, once. */
  switchTo(state: XenbusState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.store.write(`${this.path}/state`, state);
  }

  write(key: string, value: string | number): void {
    this.store.write(`${this.path}/${key}`, value);
  }
  /** A number from the other end's directory. */
  other(key: string, otherwise: number): number {
    return this.store.number(`${this.otherPath}/${key}`, otherwise);
  }
  /** A number from the other end's directory. @throws ParavaneError PROTOCOL when it is not there */
  required(key: string): number {
    const value = this.other(key, -1);
    if (value < 0) throw new ParavaneError("PROTOCOL", `${this.otherPath}/${key} is missing or not a number`);
    return value;
  }

  watchOther(call: (state: XenbusState) => void): Release {
    return this.store.watch(`${this.otherPath}/state`, () => call(this.otherState));
  }
}
