import { ParavaneError } from "../../../../core/error.ts";
import type { Disc } from "../../../media/disc.ts";
import type { CdIdentity } from "./unit.ts";

/** A CD or DVD drive on an IDE channel. The controller never closes the disc. */
export interface CdDriveOptions {
  /** What is in the tray at first; null for nothing. */
  cd: Disc | null;
  /** INQUIRY: at most 8, 16 and 4 printable ASCII characters. */
  vendor?: string;
  product?: string;
  revision?: string;
  /** IDENTIFY: at most 20. The model there is vendor and product. */
  serial?: string;
  /** Given what is played: samples of the left and the right channel in turn, 44,100 a second, as loud as the guest has it. */
  onAudio?: (samples: Int16Array) => void;
  /** Told when the tray has opened or closed, by whomever. */
  onTray?: (open: boolean) => void;
}

/** A drive's tray, as someone standing before the machine has it. */
export interface Tray {
  /** In the tray, open or closed. */
  readonly disc: Disc | null;
  readonly isOpen: boolean;
  /** Has the guest locked it? */
  readonly isLocked: boolean;
  /** Puts a disc in, in the place of what is there, and closes the tray. The guest is told of a change of medium. */
  insert(disc: Disc): void;
  /**
   * Opens the tray and takes the disc out: the disc, or null when there was none.
   * @throws ParavaneError BUSY when the guest has locked it, which is then told of the wish, unless `force` is set
   */
  eject(options?: { force?: boolean }): Disc | null;
  /** The button: opens the tray, unless the guest has locked it, which is then told of the wish; or closes it. */
  pressEject(): void;
}

/** @throws ParavaneError INVALID */
export function identityOf(options: CdDriveOptions, index: number): CdIdentity {
  const text = (name: "vendor" | "product" | "revision" | "serial", length: number, fallback: string) => {
    const value = options[name] ?? fallback;
    if (value.length <= length && /^[ -~]*$/.test(value)) return value;
    throw new ParavaneError("INVALID", `a drive's ${name} is at most ${length} printable ASCII characters`, {
      [name]: value,
    });
  };
  const vendor = text("vendor", 8, "PARAVANE");
  const product = text("product", 16, "DVD-ROM");
  return {
    vendor,
    product,
    revision: text("revision", 4, "1.0"),
    model: `${vendor} ${product}`,
    serial: text("serial", 20, `PV${String(index + 1).padStart(6, "0")}`),
  };
}
