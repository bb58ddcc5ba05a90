import type { Store } from "../../core/store.ts";
import type { Pace } from "./task.ts";

/**
 * A store that lets the signal, timers and Ctrl-C through before it reads, now and then, so that long work on metadata can
 * be stopped. @throws ParavaneError ABORTED
 */
export function paced(store: Store, pace: Pace): Store {
  let done = 0;
  return new Proxy(store, {
    get(target, name) {
      if (name === "readv") {
        return (...args: Parameters<Store["readv"]>) => {
          done += args[2].total;
          const wait = pace.step(done);
          return wait ? wait.then(() => target.readv(...args)) : target.readv(...args);
        };
      }
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
