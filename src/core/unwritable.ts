import type { ParavaneError } from "./error.ts";
import type { Later } from "./flow.ts";
import type { SegmentList } from "./segments.ts";
import type { Store } from "./store.ts";

/** A store that refuses every change, in words of its own. */
export abstract class Unwritable implements Store {
  readonly readOnly = true;
  readonly releases = false;
  abstract readonly name: string;
  abstract readonly size: number;

  abstract readv(position: number, memory: Uint8Array, segments: SegmentList): Later<void>;
  abstract close(): Later<void>;
  /** Why nothing is changed. */
  protected abstract refusal(): ParavaneError;

  flush(): void {}
  writev(): never {
    throw this.refusal();
  }
  discard(): never {
    throw this.refusal();
  }
  resize(): never {
    throw this.refusal();
  }
}
