import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import type { OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { unsupported } from "../io.ts";
import { type Descriptor, readDescriptor } from "../parallels-bundle/descriptor.ts";

const DESCRIPTOR = "DiskDescriptor.xml";
/** Parallels names files of bundles so, by the snapshots that they are of. */
const OF_BUNDLE = /\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}\.hds$/i;

/**
 * An expanding disk's header does not say whether the disk is the whole of a state, or only what was written since a snapshot; the
 * bundle's descriptor does, where it is beside the file.
 * @throws ParavaneError UNSUPPORTED (it is a part of a state), READ_ONLY (others are based on it)
 */
export function* refusePart(store: Store, { openFile, readOnly = store.readOnly, onWarning }: OpenOptions): Flow {
  const name = baseOf(store.name);
  if (!/\.hds$/i.test(name)) return;
  const descriptor = openFile && (yield* descriptorBeside(openFile));
  for (const { layers } of descriptor?.storages ?? []) {
    const depth = layers.findIndex(({ file }) => baseOf(file) === name);
    if (depth < 0) continue;
    const hint = `Open the bundle: its folder, or the ${DESCRIPTOR} in it`;
    if (depth < layers.length - 1) {
      const message = `it holds only what was written since the snapshot ${layers[depth + 1].guid}`;
      throw unsupported(store, "disk descriptor", message, hint);
    }
    if (depth > 0 && !readOnly) {
      const message = `${baseOf(layers[depth - 1].file)} is based on it: it can only be read`;
      throw new ParavaneError("READ_ONLY", message, { file: store.name, structure: "disk descriptor" }, { hint });
    }
    return;
  }
  if (!OF_BUNDLE.test(name)) return;
  const what = "if it was made by a snapshot, what was written before is not in it, and reads as zeros";
  onWarning?.(`${store.name} is a file of a bundle, whose ${DESCRIPTOR} does not tell of it: ${what}`);
}

/** None where there is no such file, or it says nothing. */
function* descriptorBeside(openFile: NonNullable<OpenOptions["openFile"]>): Flow<Descriptor | undefined> {
  let file: Store | undefined;
  try {
    file = yield* wait(openFile(DESCRIPTOR, true));
    return yield* readDescriptor(file);
  } catch (thrown) {
    const { code } = asParavaneError(thrown);
    if (["NOT_FOUND", "DENIED", "CORRUPT", "UNSUPPORTED"].includes(code)) return undefined;
    throw thrown;
  } finally {
    if (file) yield* wait(file.close());
  }
}

const baseOf = (path: string): string => /[^/\\]*$/.exec(path)![0];
