import { IdeField, IdeLimit, IdePhase } from "../../../../assembly/spec/ide.ts";
import type { PortDevice, PortStream, Width } from "../../../core/machine.ts";
import type { Core } from "../../../wasm/core.ts";

/** An access that begins or ends a block, or is of no block: the core's. */
interface Slow {
  read(width: Width): number;
  write(width: Width, value: number): void;
}

/**
 * A channel's data port, the one register that a guest reads 2,048 times for 4 KiB. Inside a DRQ block a word is an element
 * of a view and a step of a cursor; the access that ends the block, bytes, and what is odd go through the core.
 *
 *     buffer │ moved │ to be moved here │ last word │
 *            0      #at               limit         IdeField.BufferEnd
 *
 * While a block is open the cursor is ahead of IdeField.BufferAt: `settle` writes it back before the core or a save looks,
 * `open` takes it up again when the core has been at work.
 */
export class DataPort implements PortDevice, PortStream {
  readonly #core: Core;
  readonly #context: number;
  readonly #slow: Slow;
  /** The buffer. Growth of the memory detaches the views, and leaves them empty. */
  #words!: Uint16Array;
  #longs!: Uint32Array;
  /** Words into the buffer. */
  #at = 0;
  /** Where the last word of the block starts that is open for reading, or for writing; zero when none is. */
  #readLimit = 0;
  #writeLimit = 0;

  constructor(core: Core, context: number, slow: Slow) {
    this.#core = core;
    this.#context = context;
    this.#slow = slow;
    this.#view();
  }

  get stream(): PortStream {
    return this;
  }

  /** The core has been at work: is there a block, and where in it are we? */
  open(): void {
    const { u32 } = this.#core;
    const context = this.#context >>> 2;
    const phase = u32[context + IdeField.Phase / 4];
    this.#readLimit = 0;
    this.#writeLimit = 0;
    if (phase !== IdePhase.PioIn && phase !== IdePhase.PioOut) return;
    const at = u32[context + IdeField.BufferAt / 4];
    if ((at & 1) !== 0) return;
    if (this.#words.length === 0) this.#view();
    this.#at = at >>> 1;
    const limit = (u32[context + IdeField.BufferEnd / 4] - 1) >> 1;
    if (phase === IdePhase.PioIn) this.#readLimit = limit;
    else this.#writeLimit = limit;
  }

  /** Somebody is about to look at IdeField.BufferAt. */
  settle(): void {
    if (this.#readLimit + this.#writeLimit > 0)
      this.#core.u32[(this.#context + IdeField.BufferAt) >>> 2] = this.#at * 2;
  }

  readPort(_port: number, width: Width): number {
    return width === 2 ? this.read16() : width === 4 ? this.read32() : this.#slow.read(width);
  }

  writePort(_port: number, width: Width, value: number): void {
    if (width === 2) this.write16(value);
    else if (width === 4) this.write32(value);
    else this.#slow.write(width, value);
  }

  read16(): number {
    const at = this.#at;
    if (at >= this.#readLimit || this.#words.length === 0) return this.#slow.read(2);
    this.#at = at + 1;
    return this.#words[at];
  }

  read32(): number {
    const at = this.#at;
    if (at + 1 >= this.#readLimit || (at & 1) !== 0 || this.#longs.length === 0) return this.#slow.read(4);
    this.#at = at + 2;
    return this.#longs[at >>> 1];
  }

  write16(value: number): void {
    const at = this.#at;
    if (at < this.#writeLimit && this.#words.length !== 0) {
      this.#at = at + 1;
      this.#words[at] = value;
    } else this.#slow.write(2, value);
  }

  write32(value: number): void {
    const at = this.#at;
    if (at + 1 < this.#writeLimit && (at & 1) === 0 && this.#longs.length !== 0) {
      this.#at = at + 2;
      this.#longs[at >>> 1] = value;
    } else this.#slow.write(4, value);
  }

  readRun(width: Width, count: number, bytes: Uint8Array, at: number): number {
    const units = this.#inside(this.#readLimit, width, count);
    bytes.set(this.#take(units * width), at);
    return units;
  }

  writeRun(width: Width, count: number, bytes: Uint8Array, at: number): number {
    const units = this.#inside(this.#writeLimit, width, count);
    this.#take(units * width).set(bytes.subarray(at, at + units * width));
    return units;
  }

  /** How many of `count` accesses fit before the one that ends the block. */
  #inside(limit: number, width: Width, count: number): number {
    const words = width >> 1;
    if (words === 0 || this.#at >= limit) return 0;
    return Math.min(count, Math.floor((limit - this.#at) / words));
  }

  /** The next bytes of the block, and past them. */
  #take(bytes: number): Uint8Array {
    const at = this.#at;
    this.#at = at + (bytes >>> 1);
    const start = this.#context + IdeField.Buffer + at * 2;
    return this.#core.u8.subarray(start, start + bytes);
  }

  #view(): void {
    const { buffer } = this.#core.memory;
    const start = this.#context + IdeField.Buffer;
    this.#words = new Uint16Array(buffer, start, IdeLimit.BlockBytes / 2);
    this.#longs = new Uint32Array(buffer, start, IdeLimit.BlockBytes / 4);
  }
}
