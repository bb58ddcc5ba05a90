import { ParavaneError } from "../../../core/error.ts";
import type { Flow } from "../../../core/flow.ts";
import type { Format, OpenOptions } from "../../../core/format.ts";
import type { Store } from "../../../core/store.ts";
import { unsupported } from "../io.ts";
import { addReport, emptyReport } from "../lookup/tree-check.ts";
import { recognised } from "../probe.ts";
import { chosen, readArchive } from "./archive.ts";
import { OvaImage } from "./image.ts";
import { isTar, nameIn } from "./tar.ts";

/**
 * A virtual machine in one file: a tar archive with a descriptor and its disks, of which one is opened.
 * @param formats what these may be in; OVF's own is VMDK, but others are met
 */
export function ovaOf(formats: readonly Format[]): Format {
  const ova: Format = {
    name: "ova",
    extensions: ["ova"],
    // The descriptor comes first, perhaps after records that tell of it; a raw disk that holds another archive is none.
    probe: (head) => (isTar(head) && (/\.(ovf|vmdk)$/i.test(nameIn(head)) || "xgL".includes(typeOf(head))) ? 90 : 0),

    *open(store, options) {
      const archive = yield* readArchive(store, options.onWarning);
      const name = chosen(store, archive, options.member);
      const window = archive.open(name);
      const format = yield* formatOf(window, name, options.onWarning);
      const { member: _, ...rest } = options;
      const image = yield* format.open(window, { ...rest, readOnly: true, openFile: archive.open });
      return new OvaImage(image, window, store.name, name);
    },

    *check(store, { member } = {}) {
      const archive = yield* readArchive(store);
      const wanted = member !== undefined || archive.disks.length === 0;
      const report = emptyReport(0);
      for (const name of wanted ? [chosen(store, archive, member)] : archive.disks) {
        const window = archive.open(name);
        const format = yield* formatOf(window, name);
        // There is nothing to check in a raw disk.
        if (format.check) addReport(report, yield* format.check(window, { openFile: archive.open }), name);
      }
      return report;
    },
  };
  const known = [...formats, ova];

  function* formatOf(window: Store, name: string, onWarning?: OpenOptions["onWarning"]): Flow<Format> {
    let format: Format;
    try {
      format = yield* recognised(window, known, onWarning);
    } catch (thrown) {
      if (!(thrown instanceof ParavaneError)) throw thrown;
      const { code, message, context } = thrown;
      const hint = "Unpack the archive with tar, and look at the disk itself";
      throw new ParavaneError(code, `the disk ${name}: ${message}`, context, { cause: thrown, hint });
    }
    if (format !== ova) return format;
    throw unsupported(window, "archive", `the disk ${name} is an archive itself`, "Unpack the outer one with tar");
  }
  return ova;
}

const typeOf = (head: Uint8Array): string => String.fromCharCode(head[156]);
