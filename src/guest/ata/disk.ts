import { type BlockRequest, Op, Status } from "../../core/block.ts";
import type { BlockDriver } from "../driver.ts";
import type { AtaChannel, Command } from "./channel.ts";
import type { DriveIdentity } from "./identify.ts";
import { type Abilities, buildTaskfile } from "./taskfile.ts";

/** A request larger than this is split by the block layer, as Linux does at max_sectors. */
const MAX_BYTES_EXT = 1 << 20;
const MAX_BYTES = 128 << 10;
/** Half of a page of descriptors, since a segment may cross 64 KiB boundaries. */
const MAX_SEGMENTS = 256;

/** A disk on an ATA channel: one request at a time. */
export class AtaDisk implements BlockDriver {
  readonly name: string;
  readonly size: number;
  readonly sectorSize = 512;
  readonly depth = 1;
  readonly maxBytes: number;
  readonly maxSegments = MAX_SEGMENTS;
  readonly identity: DriveIdentity;
  onComplete: (request: BlockRequest) => void = () => {};
  readonly #channel: AtaChannel;
  readonly #able: Abilities;
  #closed: (() => void) | null;
  #busy = false;

  constructor(channel: AtaChannel, identity: DriveIdentity, able: Abilities, name: string, closed: () => void) {
    this.name = name;
    this.identity = identity;
    this.size = identity.sectors * 512;
    this.maxBytes = able.lba48 ? MAX_BYTES_EXT : MAX_BYTES;
    this.#channel = channel;
    this.#able = able;
    this.#closed = closed;
  }

  start(requests: readonly BlockRequest[]): number {
    if (this.#busy || requests.length === 0) return 0;
    const [request] = requests;
    const command = this.#command(request);
    if (command) {
      this.#busy = true;
      this.#channel.submit(command);
    } else {
      request.status = Status.Unsupported;
      this.onComplete(request);
    }
    return 1;
  }

  close(): void {
    this.#closed?.();
    this.#closed = null;
  }

  #command(request: BlockRequest): Command | undefined {
    const { mode, multiple } = this.#able;
    // The bus master moves words at even addresses only; the processor can do better.
    const dma = mode === "dma" && isEven(request);
    const taskfile = buildTaskfile(request, this.#able, dma);
    if (!taskfile) return undefined;
    return { taskfile, request, block: 512 * Math.max(1, multiple), done: this.#done };
  }

  readonly #done = (request: BlockRequest): void => {
    this.#busy = false;
    this.onComplete(request);
  };
}

function isEven({ op, segments }: BlockRequest): boolean {
  if (op === Op.Flush) return true;
  for (let i = 0; i < segments.count; i++) if (((segments.start(i) | segments.length(i)) & 1) !== 0) return false;
  return true;
}
