import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { KeySlots } from "../../../core/keys.ts";
import { type Luks, noPassphrase, unlock, withPassphrase } from "./luks.ts";

/** The key slots of an image, as `Image.keys`. */
export function keySlotsOf(luks: Luks): KeySlots {
  const file = luks.area.store.name;
  const used = () => luks.slots.filter(({ active }) => active).map(({ slot }) => slot);
  return {
    list: () => luks.slots.map((slot) => ({ ...slot })),

    *add(unlocking, { passphrase, force = false, ...options }): Flow<number> {
      const key = yield* unlock(luks, unlocking);
      const { kdf = {} } = unlocking;
      try {
        return yield* withPassphrase(passphrase, file, function* (bytes): Flow<number> {
          const { slot } = options;
          if (force && slot !== undefined && used().includes(slot)) yield* luks.erase(slot);
          return yield* luks.add(key, bytes, options, kdf);
        });
      } finally {
        key.fill(0);
      }
    },

    *erase({ slot, passphrase, force = false, kdf = {} }): Flow<number[]> {
      let slots = slot === undefined ? [] : [slot];
      if (slot === undefined) {
        if (!passphrase) throw noPassphrase(file);
        slots = yield* withPassphrase(passphrase, file, (bytes) => luks.slotsOf(bytes, kdf));
        if (slots.length === 0) {
          throw new ParavaneError("DENIED", "wrong passphrase: it opens no key slot", {
            file,
            structure: "LUKS header",
          });
        }
      }
      if (!force && used().every((each) => slots.includes(each)) && used().length > 0) {
        const hint = "Add another key first; or, to lose all of the data for good, use force";
        throw new ParavaneError(
          "INVALID",
          "nothing would open the image any more: it is the last key slot",
          { file },
          { hint },
        );
      }
      for (const each of slots) yield* luks.erase(each);
      return slots;
    },
  };
}
