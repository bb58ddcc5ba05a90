import { ParavaneError } from "../../../core/error.ts";

type QueueAddresses = Record<"descriptors" | "available" | "used", number>;

/** A transport as plain data; survives JSON. Addresses are guest-physical. */
export interface TransportState {
  status: number;
  causes: number;
  generation: number;
  /** Device features, driver features, queue. */
  selects: [number, number, number];
  accepted: [number, number];
  queues: { size: number; low: QueueAddresses; high: QueueAddresses; ready: boolean }[];
  /** `VirtioDevice.save`, once the driver is ready. */
  device: unknown;
}

/** After a reset. */
export const IDLE: TransportState = {
  ...{ status: 0, causes: 0, generation: 0 },
  ...{ selects: [0, 0, 0], accepted: [0, 0], queues: [], device: null },
};

/** The block device as plain data, once its driver is ready. */
export interface BlkState {
  writeback: boolean;
  /** Indexes of the next available and used entries, VqFault, and the heads under way; null when the queue is not set up. */
  queue: { available: number; used: number; fault: number; heads: number[] } | null;
}

export function noState(what: string): ParavaneError {
  return new ParavaneError("INVALID", `this is no saved state of this virtio device: ${what}`, { structure: what });
}

const isWord = (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32;
const isHalf = (value: unknown) => isWord(value) && (value as number) < 2 ** 16;
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
const isList = (value: unknown, length: number): value is number[] =>
  Array.isArray(value) && value.length === length && value.every(isWord);

/** A save may come from anywhere. @throws ParavaneError INVALID */
export function checkTransport(state: TransportState, queues: number): TransportState {
  if (!isObject(state)) throw noState("nothing");
  const { status, causes, generation, selects, accepted } = state;
  if (!isWord(status) || status > 0xff || !isWord(causes) || causes > 3 || !isWord(generation))
    throw noState("registers");
  if (!isList(selects, 3) || !isList(accepted, 2)) throw noState("selectors");
  if (!Array.isArray(state.queues) || state.queues.length > queues) throw noState("queues");
  for (const [i, queue] of state.queues.entries()) {
    const sound = (half: unknown) => {
      const { descriptors, available, used } = isObject(half) ? half : {};
      return isList([descriptors, available, used], 3);
    };
    const { size, ready, low, high } = (isObject(queue) ? queue : {}) as unknown as TransportState["queues"][0];
    if (!isHalf(size) || typeof ready !== "boolean" || !sound(low) || !sound(high)) throw noState(`queue ${i}`);
  }
  return state;
}

/** The same for a queue of that size. @throws ParavaneError INVALID */
export function checkBlk(state: unknown, size: number): BlkState {
  const { writeback, queue } = (isObject(state) ? state : {}) as unknown as BlkState;
  if (typeof writeback !== "boolean" || queue === undefined) throw noState("the disk's part");
  if (queue === null) return { writeback, queue };
  const { available, used, fault, heads } = queue;
  if (!isHalf(available) || !isHalf(used) || !isHalf(fault)) throw noState("indexes");
  const own = Array.isArray(heads) && heads.every((head) => isHalf(head) && head < size);
  if (!own || new Set(heads).size < heads.length) throw noState("heads");
  return { writeback, queue };
}
