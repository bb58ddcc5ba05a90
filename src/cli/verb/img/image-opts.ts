import { UsageError } from "../../usage.ts";
import type { Given, ImgOption } from "./options.ts";

export const IMAGE_OPTS: ImgOption = {
  long: "image-opts",
  help: "images are given as driver=FMT,file.filename=PATH instead of a name",
};

/** What says how the host's file is accessed, which changes nothing here. */
const WITHOUT_EFFECT = [
  "file.driver",
  "file.locking",
  "file.aio",
  "locking",
  "node-name",
  "file.node-name",
  "read-only",
  "auto-read-only",
  "discard",
  "cache.direct",
  "cache.no-flush",
  "lazy-refcounts",
  "overlap-check",
];
const FILE_DRIVERS = ["file", "host_device"];

/** "driver=qcow2,file.filename=disk.qcow2" (a comma in a value is written twice). @throws UsageError */
export function parseImageOpts(text: string): { path: string; format?: string } {
  const options = new Map<string, string>();
  for (const part of text.replaceAll(",,", "\0").split(",")) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(part.replaceAll("\0", ",")) ?? [];
    if (name === undefined) throw new UsageError(`Expected option=value, not "${part}", in "${text}"`);
    options.set(name, value);
  }
  const driver = options.get("driver");
  const path = options.get("file.filename") ?? options.get("filename");
  if (path === undefined) throw new UsageError(`"${text}" names no file: give file.filename=`);
  for (const [name, value] of options) {
    if (["driver", "filename", "file.filename"].includes(name) || WITHOUT_EFFECT.includes(name)) {
      if (name !== "file.driver" || FILE_DRIVERS.includes(value)) continue;
    }
    throw new UsageError(`${path}: the option "${name}=${value}" is not supported; known: driver, file.filename`);
  }
  // A protocol alone: the format is found out from the content.
  if (driver === undefined || FILE_DRIVERS.includes(driver)) return { path };
  return { path, format: driver };
}

/**
 * With --image-opts: the same as names and formats.
 * @param formats the options that give the formats of the images, in order; the last one is for those that follow
 * @param images how many of the arguments are images, from the first on
 */
export function expandImageOpts(given: Given, formats: readonly string[], images: number): Given {
  if (!given.flags.has("image-opts")) return given;
  const values = new Map(given.values);
  const rest = given.rest.map((text, i) => {
    if (i >= images) return text;
    const name = formats[Math.min(i, formats.length - 1)];
    if (given.values.has(name)) throw new UsageError("--image-opts and --format are mutually exclusive");
    const { path, format } = parseImageOpts(text);
    if (format !== undefined) values.set(name, [format]);
    return path;
  });
  return { ...given, values, rest };
}
