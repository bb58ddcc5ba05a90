import { asParavaneError, ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import type { ParentReference } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import { formatOf } from "./file-name.ts";
import type { OpenedFile, OpenGate, OpenRequest } from "./gate.ts";

/** Longer chains are taken for loops. */
const MAX_LENGTH = 200;

/** One image of a chain that is being opened, and those above it. */
export class Chain {
  readonly gate: OpenGate;
  /** From the image that was asked for down to the one at hand. */
  readonly stores: readonly Store[];

  constructor(gate: OpenGate, stores: readonly Store[]) {
    this.gate = gate;
    this.stores = stores;
  }

  get store(): Store {
    return this.stores[this.stores.length - 1];
  }

  /** The file that the image at hand keeps its data in. @throws DENIED, NOT_FOUND, CORRUPT, and what opening throws */
  *data(name: string, readOnly: boolean): Flow<Store> {
    const { store } = yield* this.#open({ kind: "data", names: [name], windows: false, readOnly });
    return store;
  }

  /** The parent of the image at hand, and its format where that is known. */
  *parent({ paths, windows = false, format, recognise }: ParentReference): Flow<OpenedFile> {
    const sought = recognise && { recognise };
    const opened = yield* this.#open({ kind: "parent", names: paths, windows, readOnly: true, ...sought });
    const said = format === undefined ? undefined : formatOf(format);
    return { ...opened, format: opened.format ?? said };
  }

  *#open(request: Omit<OpenRequest, "image">): Flow<OpenedFile> {
    const opened = yield* wait(this.gate.open({ ...request, image: this.store.name }));
    const { store } = opened;
    const again = this.stores.some((other) => other === store || (store.identity && other.identity === store.identity));
    if (!again && this.stores.length < MAX_LENGTH) return opened;
    if (!this.stores.includes(store)) yield* wait(store.close());
    const names = [...this.stores, store].map(({ name }) => name);
    throw new ParavaneError(
      "CORRUPT",
      again
        ? `the image is based on itself: ${shortened(names)}`
        : `the chain of parents is longer than ${MAX_LENGTH} images`,
      { file: names[0], structure: request.kind === "parent" ? "backing chain" : "data file name", chain: names },
      { hint: "Point one of them at its true parent: paravane img rebase -u" },
    );
  }

  /** What went wrong in a parent, said so that one knows whose parent it is. */
  blame(thrown: unknown): ParavaneError {
    const error = asParavaneError(thrown);
    if (error.context.chain !== undefined || this.stores.length < 2) return error;
    const chain = this.stores.map(({ name }) => name);
    const file = error.context.file ?? this.store.name;
    return new ParavaneError(
      error.code,
      `${error.message}, in ${this.store.name}, a parent of ${chain[0]}`,
      { ...error.context, file, chain },
      { cause: error, hint: error.hint },
    );
  }
}

/** "a → b → … → z": long chains without their middle. */
function shortened(names: string[]): string {
  return (names.length <= 6 ? names : [...names.slice(0, 3), "…", ...names.slice(-2)]).join(" → ");
}
