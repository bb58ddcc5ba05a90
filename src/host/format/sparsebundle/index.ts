import { asParavaneError, ParavaneError } from "../../../core/error.ts";
import { type Flow, wait } from "../../../core/flow.ts";
import { type CheckFiles, ExtentKind, type Format } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, unsupported } from "../io.ts";
import { LookupImage } from "../lookup/image.ts";
import type { Found } from "../lookup/mapper.ts";
import { Missing } from "../lookup/pages.ts";
import { checkUnits } from "../lookup/unit-check.ts";
import { DECRYPT, foreignFormat } from "../signatures.ts";
import { BandFiles } from "./band-files.ts";
import { isBundleInfo, readInfo } from "./info.ts";

class SparseBundle extends LookupImage {
  readonly format = "sparsebundle";
  readonly data: BandFiles;
  readonly bandBytes: number;

  constructor(store: Store, data: BandFiles, bandBytes: number) {
    super(store, data.size);
    this.data = data;
    this.bandBytes = bandBytes;
  }

  find(offset: number): Found {
    const band = Math.floor(offset / this.bandBytes);
    const within = offset - band * this.bandBytes;
    const there = this.data.lengthOf(band);
    if (there === undefined) throw new Missing(band);
    if (there > this.bandBytes) {
      const name = `band ${band.toString(16)}`;
      throw corrupt(this.store, name, this.bandBytes, `has ${there} bytes, more than ${this.bandBytes}`);
    }
    const whole = Math.min(this.bandBytes, this.size - band * this.bandBytes);
    // A band's file may end early.
    if (within < there) return { kind: ExtentKind.Data, length: Math.min(there, whole) - within, position: offset };
    return { kind: ExtentKind.Backing, length: whole - within };
  }

  override *loadPage(band: number): Flow {
    yield* this.data.look(band);
  }

  describe(): Record<string, unknown> {
    return { format: this.format, size: this.size, clusterSize: this.bandBytes };
  }
}

function* openBundle(store: Store, { openFile }: CheckFiles): Flow<SparseBundle> {
  const { size, bandBytes } = yield* readInfo(store);
  if (!openFile) {
    const hint = "Give a function that opens it as `openFile`";
    const context = { file: store.name, structure: "bands" };
    throw new ParavaneError("NOT_FOUND", "the image keeps its data in bands/, which was not given", context, { hint });
  }
  yield* refuseEncrypted(store, openFile);
  return new SparseBundle(store, new BandFiles(store.name, size, bandBytes, openFile), bandBytes);
}

/** The token of an encrypted bundle has the header of encrypted images; that of others is empty. */
function* refuseEncrypted(store: Store, openFile: NonNullable<CheckFiles["openFile"]>): Flow {
  let token: Store;
  try {
    token = yield* wait(openFile("token", true));
  } catch (thrown) {
    if (asParavaneError(thrown).code === "NOT_FOUND") return;
    throw thrown;
  }
  try {
    const head = yield* read(token, 0, Math.min(512, token.size));
    if (foreignFormat(head, head)) throw unsupported(store, "token", "the sparse bundle is encrypted", DECRYPT);
  } finally {
    yield* wait(token.close());
  }
}

/** Apple's sparse bundles: a folder with an Info.plist and a file for each band of the disk; read only. */
export const sparsebundle: Format = {
  name: "sparsebundle",
  extensions: [],
  probe: (head) => (isBundleInfo(head) ? 100 : 0),

  open: openBundle,

  *check(store, options = {}) {
    const image = yield* openBundle(store, options);
    try {
      return yield* checkUnits(image, image.bandBytes);
    } finally {
      yield* wait(image.data.close());
    }
  },
};
