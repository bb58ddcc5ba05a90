import { ParavaneError } from "../core/error.ts";
import { CORE_WASM } from "./core.gen.ts";
import { instantiateSync } from "./loader.ts";

/** The core's exports, as declared in assembly/index.ts. Addresses are linear and unsigned. */
export interface CoreExports {
  /** Answers the first `count` ranges of a map context; why it stopped (MapEnd). See assembly/spec/map.ts. */
  mapResolve(ctx: number, count: number): number;
  /** Power-on or hardware reset of one IDE channel; see assembly/spec/ide.ts. */
  ideReset(ctx: number): void;
  /** A guest's access to a channel register (AtaRegister). A write returns IdeEvent bits, a read its value + bits × 2^32. */
  ideRead(ctx: number, register: number, width: number): number;
  ideWrite(ctx: number, register: number, width: number, value: number): number;
  /** Walks the PRD table of the DMA command under way: 1 with its request in the table, 0 when the command has ended. */
  idePrd(ctx: number, busMaster: number): number;
  /** The host has done what an event asked for: BlockStatus or IdeAnswer, failing sector or -1. Returns IdeEvent bits. */
  ideFinish(ctx: number, status: number, lba: number): number;
  /** Ring → request table; RingResult bits. See assembly/ring/blkif.ts. */
  xenBackConsume(back: number, table: number): number;
  /** Statuses of the table's first `count` records → responses; RingResult bits. */
  xenBackComplete(back: number, table: number, count: number): number;
  /** Request table → ring; RingResult bits. See assembly/ring/blkif-front.ts. */
  xenFrontSubmit(front: number, table: number, count: number): number;
  /** Responses → completion words; how many, or RingResult.Fatal << 16. */
  xenFrontPoll(front: number): number;
  /** Linear address of the page behind a grant reference, 0 when not granted. See assembly/ring/grant.ts. */
  grantMap(grants: number, domain: number, ref: number, write: boolean): number;
  grantUnmap(grants: number, ref: number): void;
  /** Available requests → the request table; how many records. See assembly/spec/virtqueue.ts. */
  virtioBlkConsume(ctx: number): number;
  /** Finishes `count` completions; VqAnswer. */
  virtioBlkComplete(ctx: number, count: number): number;
  /** Driver half: makes `count` records available; 1 when the device must be notified. */
  virtioBlkSubmit(ctx: number, count: number): number;
  /** Driver half: takes what was used; how many, or VqPoll.Broken. */
  virtioBlkPoll(ctx: number): number;
  /** Produced requests → command records; PvscsiAnswer. See assembly/ring/pvscsi.ts. */
  pvscsiConsume(ctx: number): number;
  /** Writes `count` completions; PvscsiAnswer. */
  pvscsiComplete(ctx: number, count: number): number;
  /** A PvscsiMessageType about a target; PvscsiAnswer. */
  pvscsiMessage(ctx: number, type: number, target: number): number;
  /** Length of the run of zeros, or of units that are none, at a linear address; plus 1 for zeros. See assembly/scan.ts. */
  zeroRun(at: number, length: number, unit: number): number;
  /** 1 when compression would gain next to nothing. See assembly/scan.ts. */
  incompressible(at: number, length: number, scratch: number): number;
  /** Raw DEFLATE data → `size` bytes; how much of it that took, 0 when it is damaged. See assembly/packed/inflate.ts. */
  inflate(input: number, end: number, output: number, size: number, toEnd: boolean, scratch: number): number;
  /** Zstandard frames → `size` bytes; ZstdFault. See assembly/packed/zstd.ts. */
  unzstd(input: number, end: number, output: number, size: number, scratch: number): number;
  /** Bytes → a Zstandard frame; its length. See assembly/packed/zstd-pack.ts. */
  zstd(input: number, size: number, output: number, scratch: number): number;
  /** RFC 1950's checksum; signed. */
  adler32(at: number, length: number): number;
  /** Computes the tables of a cipher context, then its keys (CipherKey). See assembly/spec/cipher.ts. */
  cipherTables(ctx: number): void;
  cipherKey(ctx: number, which: number, key: number, bytes: number): void;
  /** Encrypts or decrypts whole sectors in place; `number` is the first one's, in 512 bytes. */
  cipherSectors(ctx: number, at: number, length: number, number: number, decrypt: boolean, scratch: number): void;
}

/** Bytes per WebAssembly page. */
export const PAGE = 65536;

/** The core bound to one linear memory. Views are renewed when the memory has grown. */
export class Core {
  readonly memory: WebAssembly.Memory;
  readonly call: CoreExports;
  #u8: Uint8Array;
  #u32: Uint32Array;
  #f64: Float64Array;

  /** @throws ParavaneError UNSUPPORTED when the memory is shared: a module says which kind it imports, ours the plain one */
  constructor(memory: WebAssembly.Memory) {
    if (String(memory.buffer) === "[object SharedArrayBuffer]") {
      const hint = "Give guest RAM a WebAssembly.Memory without `shared`";
      throw new ParavaneError("UNSUPPORTED", "guest memory is shared between threads", {}, { hint });
    }
    this.memory = memory;
    this.call = instantiate(memory);
    this.#u8 = new Uint8Array(memory.buffer);
    this.#u32 = new Uint32Array(memory.buffer);
    this.#f64 = new Float64Array(memory.buffer);
  }

  get u8(): Uint8Array {
    if (this.#u8.length === 0) this.#renew();
    return this.#u8;
  }
  get u32(): Uint32Array {
    if (this.#u32.length === 0) this.#renew();
    return this.#u32;
  }
  get f64(): Float64Array {
    if (this.#f64.length === 0) this.#renew();
    return this.#f64;
  }

  /** Little-endian field access for set-up code; hot paths index the views. */
  get(address: number): number {
    return this.u32[address >>> 2];
  }
  set(address: number, value: number): void {
    this.u32[address >>> 2] = value;
  }

  #renew(): void {
    this.#u8 = new Uint8Array(this.memory.buffer);
    this.#u32 = new Uint32Array(this.memory.buffer);
    this.#f64 = new Float64Array(this.memory.buffer);
  }
}

const cores = new WeakMap<WebAssembly.Memory, Core>();

/** The core over `memory`, instantiated on first use and shared by every device of that memory. */
export function coreFor(memory: WebAssembly.Memory): Core {
  let core = cores.get(memory);
  if (!core) cores.set(memory, (core = new Core(memory)));
  return core;
}

let compiled: WebAssembly.Module | undefined;
let extraImports: WebAssembly.ModuleImports = {};

/** The core, compiled once; other threads can be given it. */
export function coreModule(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(Uint8Array.from(atob(CORE_WASM), (c) => c.charCodeAt(0)));
  return compiled;
}

function instantiate(memory: WebAssembly.Memory): CoreExports {
  // The loader wraps every function of `.exports`; the instance's own are faster (3.9 against 2.9 ns a call).
  return instantiateSync(coreModule(), { env: { ...extraImports, memory } }).instance.exports as unknown as CoreExports;
}

/**
 * Test hook: run on another build of the core (traced, sabotaged), with what it imports besides the memory. Affects
 * memories not bound yet; null restores.
 */
export function useCoreModule(module: WebAssembly.Module | null, imports: WebAssembly.ModuleImports = {}): void {
  compiled = module ?? undefined;
  extraImports = imports;
}
