import { ParavaneError } from "../../core/error.ts";
import type { Packing } from "../../core/format.ts";
import type { Compress } from "./pack.ts";

/** Units that a worker is to compress: one after the other in `memory`, whose buffer is handed over and comes back. */
export interface PackOrder {
  memory: Uint8Array;
  lengths: number[];
  packing: Packing;
}

/** What became of them, in `memory` as far as it has room, or why nothing did. */
export interface PackAnswer {
  memory: Uint8Array;
  packed: Uint8Array[];
  error?: string;
}

/** A worker that answers each `PackOrder` with a `PackAnswer`, in their order. A page's `Worker` is one. */
export interface PackWorker {
  postMessage(order: PackOrder, transfer: ArrayBuffer[]): void;
  // biome-ignore lint/suspicious/noExplicitAny: the event types of pages and of Node have nothing in common
  addEventListener(type: "message" | "error", listener: (event: any) => void): void;
  terminate(): unknown;
}

/** The worker's side of it: `serveCompression(self, compress)`, in a module of the page's own. */
export function serveCompression(
  scope: {
    postMessage(answer: PackAnswer, transfer: ArrayBuffer[]): void;
    addEventListener: PackWorker["addEventListener"];
  },
  compress: (bytes: Uint8Array, packing: Packing) => Uint8Array | Promise<Uint8Array>,
): void {
  const answerTo = async ({ memory, lengths, packing }: PackOrder) => {
    const answer: PackAnswer = { memory, packed: [] };
    try {
      let at = 0;
      let put = 0;
      for (const length of lengths) {
        const bytes = await compress(memory.subarray(at, at + length), packing);
        at += length;
        // Where units were that are done with.
        const fits = put + bytes.length <= at;
        if (fits) memory.set(bytes, put);
        answer.packed.push(fits ? memory.subarray(put, put + bytes.length) : bytes);
        if (fits) put += bytes.length;
      }
    } catch (thrown) {
      answer.packed = [];
      answer.error = thrown instanceof Error ? thrown.message : String(thrown);
    }
    scope.postMessage(answer, [memory.buffer as ArrayBuffer]);
  };
  // One after the other: answers come in the order of the orders.
  let last = Promise.resolve();
  scope.addEventListener("message", ({ data }: { data: PackOrder }) => {
    last = last.then(() => answerTo(data));
  });
}

interface Unit {
  bytes: Uint8Array;
  packing: Packing;
  resolve(packed: Uint8Array): void;
  reject(thrown: unknown): void;
}

interface Member {
  worker: PackWorker;
  /** Orders under way, oldest first. */
  orders: Unit[][];
}

/** Bytes of the units in one order, so that a message is worth it; and orders that a worker has, so that it need not wait. */
const ORDER = 2 ** 19;
const ORDERS = 8;

/**
 * Compresses on workers, `count` of them at most; each is started when there is more to do than those before it take. Waiting
 * units are not copied: whoever has them compressed bounds how many there are. The memory of what is released is used again.
 * `close` ends the workers; what is under way fails.
 */
export function compressPool(start: () => PackWorker, count: number): Compress & { close(): void } {
  const members: Member[] = [];
  const waiting: Unit[] = [];
  /** Memory for orders that nobody uses, and the buffers of which somebody has something yet: of how many units. */
  const spare: Uint8Array[] = [];
  const lent = new WeakMap<ArrayBufferLike, number>();
  let failure: unknown;
  let scheduled = false;

  const fail = (thrown: unknown) => {
    failure ??= thrown;
    for (const { worker } of members) worker.terminate();
    for (const unit of [...members.flatMap(({ orders }) => orders.flat()), ...waiting.splice(0)]) unit.reject(failure);
    members.length = 0;
  };
  const join = () => {
    const member: Member = { worker: start(), orders: [] };
    member.worker.addEventListener("message", ({ data }: { data: PackAnswer }) => {
      const units = member.orders.shift() ?? [];
      const { memory } = data;
      const count = data.packed.filter(({ buffer }) => buffer === memory.buffer).length;
      if (count === 0) spare.push(memory);
      else lent.set(memory.buffer, count);
      if (data.error !== undefined) for (const unit of units) unit.reject(new ParavaneError("IO", data.error));
      else for (const [i, unit] of units.entries()) unit.resolve(data.packed[i]);
      send();
    });
    member.worker.addEventListener("error", (event: { message?: string }) =>
      fail(new ParavaneError("IO", `a worker that compresses has failed: ${event.message ?? "no reason given"}`)),
    );
    members.push(member);
    return member;
  };
  /** Another member, where one can be had; without any there is nobody to compress. */
  const another = () => {
    if (members.length >= count) return undefined;
    try {
      return join();
    } catch (thrown) {
      if (members.length === 0) throw thrown;
      count = members.length;
      return undefined;
    }
  };
  const send = () => {
    scheduled = false;
    try {
      while (waiting.length > 0) {
        const idle = members.find(({ orders }) => orders.length === 0);
        const member = idle ?? another() ?? members.find(({ orders }) => orders.length < ORDERS);
        if (!member) return;
        const [{ packing, bytes }] = waiting;
        // A share each, as long as that is worth a message.
        const share = Math.min(Math.max(1, Math.floor(ORDER / bytes.length)), Math.ceil(waiting.length / count));
        const other = waiting.findIndex((unit) => unit.packing !== packing);
        order(member, waiting.splice(0, other < 0 ? share : Math.min(share, other)), packing, spare.pop());
      }
    } catch (thrown) {
      fail(thrown);
    }
  };

  const compress = (bytes: Uint8Array, packing: Packing): Promise<Uint8Array> =>
    new Promise((resolve, reject) => {
      if (failure) return reject(failure);
      waiting.push({ bytes, packing, resolve, reject });
      if (scheduled) return;
      scheduled = true;
      // Units come in groups.
      queueMicrotask(send);
    });
  const release = ({ buffer }: Uint8Array) => {
    const left = (lent.get(buffer) ?? 0) - 1;
    if (left > 0) lent.set(buffer, left);
    else if (lent.delete(buffer)) spare.push(new Uint8Array(buffer));
  };
  const close = () => fail(new ParavaneError("CLOSED", "the compressor is closed"));
  return Object.assign(compress, { release, close });
}

function order({ worker, orders }: Member, units: Unit[], packing: Packing, spare: Uint8Array | undefined): void {
  const lengths = units.map(({ bytes }) => bytes.length);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const memory = spare && spare.length >= total ? spare : new Uint8Array(Math.max(total, ORDER));
  let at = 0;
  for (const { bytes } of units) {
    memory.set(bytes, at);
    at += bytes.length;
  }
  orders.push(units);
  worker.postMessage({ memory, lengths, packing }, [memory.buffer as ArrayBuffer]);
}
