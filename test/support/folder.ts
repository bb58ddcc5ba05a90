import { ParavaneError } from "../../src/core/error.ts";
import type { NewFiles } from "../../src/core/format.ts";
import type { Store } from "../../src/core/store.ts";
import { KeptStore } from "./disks.ts";

/** Files of an image, by name, in memory. */
export class Folder {
  readonly files = new Map<string, KeptStore>();
  readonly opened: string[] = [];
  readonly #seen: (store: KeptStore) => Store;

  /** @param seen what an image gets to see of a file */
  constructor(seen: (store: KeptStore) => Store = (store) => store) {
    this.#seen = seen;
  }

  making(name: string): NewFiles {
    return {
      name,
      make: (other) => {
        const store = new KeptStore();
        this.files.set(other, store);
        return store;
      },
    };
  }

  readonly openFile = (name: string): Store => {
    const store = this.files.get(name);
    if (!store) throw new ParavaneError("NOT_FOUND", `${name} is not there`, { file: name });
    this.opened.push(name);
    return this.#seen(store);
  };
}
