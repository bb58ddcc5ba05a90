import type { SegmentList } from "../../core/segments.ts";
import { RangeClient, type RangeOptions } from "./range.ts";
import { ReadOnlyStore } from "./read-only.ts";
import { Units } from "./units.ts";

export interface HttpStoreOptions extends RangeOptions {
  /** Bytes kept in memory, at most. Default 32 MiB. */
  cacheBytes?: number;
  /** Bytes asked for at a time, at least. Default 128 KiB. */
  unit?: number;
  /** Bytes fetched ahead of one who reads in order, at most. Default 2 MiB; 0: none. */
  readahead?: number;
  /** Requests under way together, at most. Default 6. */
  inFlight?: number;
}

/**
 * A file behind HTTP, read-only, by range requests. All of it is of the version it had when it was opened: once that changes,
 * reads fail. Failed requests are made again. Asynchronous.
 */
export class HttpStore extends ReadOnlyStore {
  readonly identity: string;
  readonly #client: RangeClient;
  readonly #units: Units;

  private constructor(url: string, size: number, client: RangeClient, units: Units) {
    super(url, size);
    this.identity = url;
    this.#client = client;
    this.#units = units;
  }

  /**
   * @throws ParavaneError UNSUPPORTED (the server ignores ranges, compresses, or does not tell versions apart), NOT_FOUND,
   * DENIED, PROTOCOL, IO (no answer), ABORTED
   */
  static async open(url: string | URL, options: HttpStoreOptions = {}): Promise<HttpStore> {
    const { cacheBytes = 2 ** 25, unit = 2 ** 17, readahead = 2 ** 21, inFlight = 6, ...range } = options;
    const client = new RangeClient(String(url), range);
    const { size, head } = await client.open(unit);
    const units = new Units(size, (position, length) => client.get(position, length), {
      unit,
      cacheBytes,
      readahead,
      inFlight,
    });
    if (size > 0) units.put(0, head);
    return new HttpStore(String(url), size, client, units);
  }

  protected async read(position: number, memory: Uint8Array, segments: SegmentList): Promise<void> {
    this.#client.check();
    await this.#units.read(position, memory, segments);
  }

  override close(): void {
    super.close();
    this.#client.close();
  }
}
