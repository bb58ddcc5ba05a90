// Which format an image is in, by its content.
import { asParavaneError, ParavaneError } from "../../core/error.ts";
import { type Flow, wait } from "../../core/flow.ts";
import type { Format, OpenOptions } from "../../core/format.ts";
import { SegmentList } from "../../core/segments.ts";
import type { Store } from "../../core/store.ts";
import { raw } from "./raw.ts";
import { foreignFormat, packedWith } from "./signatures.ts";

const SECTOR = 512;

/**
 * The format that is surest of the store's first and last sector; raw, when no other claims it.
 * @throws ParavaneError UNSUPPORTED (it is packed, or an image that is not opened here), and what the store throws
 */
export function* probe(store: Store, formats: readonly Format[]): Flow<Format> {
  const length = Math.min(SECTOR, store.size);
  const head = new Uint8Array(length);
  const tail = new Uint8Array(length);
  yield* wait(store.readv(0, head, SegmentList.of(0, length)));
  yield* wait(store.readv(store.size - length, tail, SegmentList.of(0, length)));
  const best = surest(head, tail, formats);
  if (best !== raw) return best;
  const packed = packedRefusal(store, head);
  if (packed) throw packed;
  const foreign = foreignFormat(head, tail);
  if (foreign === undefined) return raw;
  const article = /^[aeiou]/.test(foreign.name) ? "an" : "a";
  const hint = `${foreign.hint.replace("FILE", store.name)}; or, if it is a raw disk with such a content, say so: format "raw"`;
  throw new ParavaneError("UNSUPPORTED", `it is ${article} ${foreign.name} image`, { file: store.name }, { hint });
}

function packedRefusal(store: Store, head: Uint8Array): ParavaneError | undefined {
  const packed = packedWith(head);
  if (!packed) return undefined;
  const hint = `Unpack it first: ${packed.command.replace("FILE", store.name)}; or, if it is a raw disk, say so: format "raw"`;
  return new ParavaneError("UNSUPPORTED", `it is packed with ${packed.name}`, { file: store.name }, { hint });
}

/** What to say of a store that is no image of the format that was named: of a packed file, that is what is in it. */
export function* orPacked(store: Store, thrown: unknown): Flow<unknown> {
  if (asParavaneError(thrown).code !== "CORRUPT") return thrown;
  const head = new Uint8Array(Math.min(SECTOR, store.size));
  yield* wait(store.readv(0, head, SegmentList.of(0, head.length)));
  return packedRefusal(store, head) ?? thrown;
}

/**
 * By its content; raw only when nothing says that it should be another.
 * @throws ParavaneError CORRUPT (its name says otherwise), and as `probe`
 */
export function* recognised(
  store: Store,
  formats: readonly Format[],
  onWarning?: OpenOptions["onWarning"],
): Flow<Format> {
  const format = yield* probe(store, formats);
  if (format !== raw) return format;
  const ending = /\.([^./\\]+)$/.exec(store.name)?.[1].toLowerCase() ?? "";
  const claimed = formats.find((other) => other !== raw && other.extensions.includes(ending));
  if (claimed) {
    throw new ParavaneError(
      "CORRUPT",
      `it is named as a ${claimed.name} image, but nothing in it says so: truncated, or a raw disk`,
      { file: store.name },
      { hint: 'If it is a raw disk, say so: format "raw"' },
    );
  }
  onWarning?.(`${store.name} has no image header that is known: taken as a raw disk`);
  return raw;
}

/** The format that a file with this first or this last sector would be taken for; undefined when that is raw. */
export function claimedBy(head: Uint8Array, tail: Uint8Array, formats: readonly Format[]): string | undefined {
  const own = surest(head, tail, formats);
  return own === raw ? foreignFormat(head, tail)?.name : own.name;
}

function surest(head: Uint8Array, tail: Uint8Array, formats: readonly Format[]): Format {
  let best = raw;
  for (const format of formats) if (format.probe(head, tail) > best.probe(head, tail)) best = format;
  return best;
}
