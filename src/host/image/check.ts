import { ParavaneError } from "../../core/error.ts";
import { run } from "../../core/flow.ts";
import type { CheckFiles, CheckReport, Format } from "../../core/format.ts";
import type { Store } from "../../core/store.ts";
import { Chain } from "../block/chain.ts";
import { denyAll, type OpenGate } from "../block/gate.ts";
import { drive, formatNamed } from "../block/open.ts";
import { FORMATS } from "../format/index.ts";
import { probe } from "../format/probe.ts";
import { paced } from "./paced.ts";
import { Pace, type TaskOptions } from "./task.ts";

export interface CheckOptions extends TaskOptions {
  /** The format's name; found out from the content when absent. */
  format?: string;
  /** Opens the other files that the image names. Default: none is. */
  gate?: OpenGate;
  /** Which disk of an archive, by its name there. Default: all of them. */
  member?: string;
}

export interface ImageCheck extends CheckReport {
  format: string;
}

export interface ImageRepair extends ImageCheck {
  /** How many of each are gone. */
  leaksFixed: number;
  corruptionsFixed: number;
}

/**
 * Follows every reference of the image in `store`, which is only read, and stays open. The parent is not looked at.
 * @throws ParavaneError UNSUPPORTED (the format has no check), CORRUPT (nothing to go by), ABORTED, and what the store throws
 */
export async function checkImage(store: Store, options: CheckOptions = {}): Promise<ImageCheck> {
  const format = await formatOf(store, options);
  if (!format.check) throw without(format, store, "check");
  const pace = new Pace(options, store.size);
  const report = await drive(format.check(paced(store, pace), filesOf(store, options)), options.signal);
  pace.end();
  return { ...report, format: format.name };
}

/**
 * Gives leaked space back; with "all", also mends what can be. Nobody else may have the image open. Stopped half-way, the
 * image is as after a power cut. What is left is in the report.
 * @throws ParavaneError as `checkImage`, READ_ONLY, NO_SPACE, and CORRUPT when something is damaged beyond repair
 */
export async function repairImage(
  store: Store,
  what: "leaks" | "all",
  options: CheckOptions = {},
): Promise<ImageRepair> {
  const format = await formatOf(store, options);
  if (!format.repair || !format.check) throw without(format, store, "repair");
  const pace = new Pace(options, store.size);
  const seen = paced(store, pace);
  const files = filesOf(store, options);
  const before = await drive(format.check(seen, files), options.signal);
  const after = await drive(format.repair(seen, what, files), options.signal);
  pace.end();
  return {
    ...after,
    format: format.name,
    leaksFixed: Math.max(0, before.leaks - after.leaks),
    corruptionsFixed: Math.max(0, before.corruptions - after.corruptions),
  };
}

function filesOf(store: Store, { gate = denyAll, member }: CheckOptions): CheckFiles {
  const chain = new Chain(gate, [store]);
  return { openFile: (name, readOnly) => run(chain.data(name, readOnly)), ...(member !== undefined && { member }) };
}

async function formatOf(store: Store, { format, signal }: CheckOptions): Promise<Format> {
  return format === undefined ? drive(probe(store, FORMATS), signal) : formatNamed(format);
}

function without({ name }: Format, { name: file }: Store, what: string): ParavaneError {
  return new ParavaneError("UNSUPPORTED", `${name} images have nothing to ${what}`, { file });
}
