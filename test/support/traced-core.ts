import { readFileSync } from "node:fs";
import binaryen from "binaryen";
import { type Core, useCoreModule } from "../../src/wasm/core.ts";

/** One load that the core made: linear address and width in bytes. */
export interface Load {
  address: number;
  bytes: number;
}

/** Watches every load of cores instantiated while it is installed (copies are loops of loads in this build). */
export class TracedCore {
  readonly loads: Load[] = [];
  readonly #restore: () => void;
  #last: Load = { address: 0, bytes: 0 };

  /**
   * `onLoad` runs after the core has its value, before it goes on: the moment at which a hostile guest would change the
   * field. Install before the memory is first bound to a core.
   */
  static install(onLoad?: (load: Load) => void): TracedCore {
    return new TracedCore(onLoad);
  }

  private constructor(onLoad?: (load: Load) => void) {
    const value = <T>(_id: number, value: T): T => {
      this.loads.push(this.#last);
      onLoad?.(this.#last);
      return value;
    };
    useCoreModule(instrumented(), {
      // binaryen's instrument-memory pass calls these around every access.
      load_ptr: (_id: number, bytes: number, offset: number, pointer: number) => {
        this.#last = { address: (pointer + offset) >>> 0, bytes };
        return pointer;
      },
      load_val_i32: value,
      load_val_i64: value,
      load_val_f32: value,
      load_val_f64: value,
      store_ptr: (_id: number, _bytes: number, _offset: number, pointer: number) => pointer,
      store_val_i32: (_id: number, stored: number) => stored,
      store_val_i64: (_id: number, stored: bigint) => stored,
      store_val_f32: (_id: number, stored: number) => stored,
      store_val_f64: (_id: number, stored: number) => stored,
      memory_grow_pre: (_id: number, pages: number) => pages,
      memory_grow_post: (_id: number, pages: number) => pages,
    });
    this.#restore = () => useCoreModule(null);
  }

  /** Splits the record by call: `after` runs when an export of `core` has returned, `loads` being those of that call. */
  perCall(core: Core, after: (name: string) => void): void {
    const calls: Record<string, unknown> = {};
    for (const [name, call] of Object.entries(core.call)) {
      calls[name] = (...args: unknown[]) => {
        this.clear();
        const result = call(...args);
        after(name);
        return result;
      };
    }
    Object.defineProperty(core, "call", { value: calls });
  }

  clear(): void {
    this.loads.length = 0;
  }

  /** Bytes within [start, end) that were loaded more than once since `clear`, as linear addresses. */
  twice(start: number, end: number): number[] {
    const seen = new Set<number>();
    const again = new Set<number>();
    for (const { address, bytes } of this.loads) {
      for (let at = Math.max(address, start); at < Math.min(address + bytes, end); at++) {
        if (seen.has(at)) again.add(at);
        seen.add(at);
      }
    }
    return [...again];
  }

  /** Loads of [start, end) since `clear`. */
  within(start: number, end: number): Load[] {
    return this.loads.filter(({ address, bytes }) => address + bytes > start && address < end);
  }

  /** Cores bound from now on are the ordinary build again. */
  uninstall(): void {
    this.#restore();
  }
}

let module: WebAssembly.Module | undefined;

function instrumented(): WebAssembly.Module {
  if (!module) {
    const parsed = binaryen.readBinary(readFileSync("build/core.traced.wasm"));
    parsed.runPasses(["instrument-memory"]);
    module = new WebAssembly.Module(new Uint8Array(parsed.emitBinary()));
    parsed.dispose();
  }
  return module;
}
