import { UsageError } from "../../usage.ts";
import type { Given, ImgOption } from "./options.ts";

export const IMAGE_OPTS: ImgOption = {
  long: "image-opts",
  help: "images are named by driver=FMT,encrypt.key-secret=ID,file.filename=PATH",
};

/** What says how the host's file is accessed and what is cached, which changes nothing here. */
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
  "cache-size",
  "cache-clean-interval",
  "l2-cache-size",
  "l2-cache-entry-size",
  "refcount-cache-size",
  "pass-discard-request",
  "pass-discard-snapshot",
  "pass-discard-other",
  "detect-zeroes",
  "overlap-check",
  "encrypt.format",
];
/** The id of the secret with the passphrase, of qcow2 and of LUKS images. */
const KEY_SECRET = ["encrypt.key-secret", "key-secret"];
/** The same of its parents: "backing." for each of them that is in between. */
const PARENT_SECRET = /^((?:backing\.)+)(?:encrypt\.)?key-secret$/;
/** QEMU's longest chain is shorter. */
const MAX_PARENTS = 200;
const FILE_DRIVERS = ["file", "host_device"];

/** "driver=qcow2,file.filename=disk.qcow2" (a comma in a value is written twice), by name. @throws UsageError */
function pairs(text: string): Map<string, string> {
  const options = new Map<string, string>();
  for (const part of text.replaceAll(",,", "\0").split(",")) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(part.replaceAll("\0", ",")) ?? [];
    if (name === undefined) throw new UsageError(`Expected option=value, not "${part}", in "${text}"`);
    options.set(name, value);
  }
  return options;
}

/** 'json:{"driver": "qcow2", "file": {…}}', as the same names. @throws UsageError */
function flattened(text: string): Map<string, string> {
  const options = new Map<string, string>();
  const put = (value: unknown, name: string) => {
    // What is null is as what is empty: a parent that is to be left out, say.
    if (value === null) options.set(name, "");
    else if (typeof value !== "object") options.set(name, value === true ? "on" : String(value));
    else for (const [key, inner] of Object.entries(value)) put(inner, name === "" ? key : `${name}.${key}`);
  };
  try {
    // Single quotes are as good to QEMU.
    const json = text.slice("json:".length);
    put(JSON.parse(json.includes('"') ? json : json.replaceAll("'", '"')), "");
  } catch (thrown) {
    throw new UsageError(`Could not parse the JSON options: ${(thrown as Error).message}`);
  }
  return options;
}

/** What is said of an image's parent, instead of what the image says. */
export interface ParentOpts {
  /** Absent: the one that the image names. */
  path?: string;
  format?: string;
  /** Of the parent's own parent. */
  parent?: ParentOpts | "none";
}

interface ImageOpts {
  path: string;
  format?: string;
  secret?: string;
  /** Of an archive with several disks. */
  member?: string;
  /** Of its parents, the nearest first. */
  parentSecrets?: readonly (string | undefined)[];
  /** None: where the image has nothing itself, the disk is zeros. */
  parent?: ParentOpts | "none";
}

const BACKING = "backing.";

/** Takes what is said of the parent out of the options. @throws UsageError when it says more than is known here */
function takeParent(options: Map<string, string>, prefix = ""): ParentOpts | "none" | undefined {
  const below = new Map<string, string>();
  for (const [name, value] of options) {
    if (!name.startsWith(BACKING) || PARENT_SECRET.test(prefix + name)) continue;
    options.delete(name);
    below.set(name.slice(BACKING.length), value);
  }
  const refuse = (text: string) =>
    new UsageError(`${text}; known of a parent: ${prefix}backing.driver, …file.filename`);
  const whole = options.get("backing");
  options.delete("backing");
  if (whole !== undefined) {
    if (whole !== "") throw refuse(`"${prefix}backing=${whole}": there are no nodes of that name`);
    if (below.size > 0) throw refuse(`"${prefix}backing" is left out, and yet there are options of it`);
    return "none";
  }
  if (below.size === 0) return undefined;
  const parent = takeParent(below, prefix + BACKING);
  const [path, driver] = [below.get("file.filename"), below.get("driver")];
  for (const [name, value] of below) {
    const known = name === "driver" || name === "file.filename" || WITHOUT_EFFECT.includes(name);
    if (known && (name !== "file.driver" || FILE_DRIVERS.includes(value))) continue;
    throw refuse(`the option "${prefix}${BACKING}${name}=${value}" is not supported`);
  }
  if (driver !== undefined && FILE_DRIVERS.includes(driver)) throw refuse(`"${driver}" is no format of a parent`);
  if (path === undefined && parent !== undefined) {
    throw refuse(`"${prefix}backing.backing" is said, but not ${prefix}backing.file.filename`);
  }
  if (path === undefined && driver === undefined) return undefined;
  return {
    ...(path !== undefined && { path }),
    ...(driver !== undefined && { format: driver }),
    ...(parent !== undefined && { parent }),
  };
}

/** The file and the format that options, or a "json:" name, say. @throws UsageError when they say more than is known here */
export function parseImageOpts(text: string): ImageOpts {
  const options = text.startsWith("json:") ? flattened(text) : pairs(text);
  const parent = takeParent(options);
  const driver = options.get("driver");
  const path = options.get("file.filename") ?? options.get("filename");
  if (path === undefined) throw new UsageError(`"${text}" names no file: give file.filename=`);
  const parentSecrets: (string | undefined)[] = [];
  for (const [name, value] of options) {
    const depth = (PARENT_SECRET.exec(name)?.[1].length ?? 0) / "backing.".length;
    if (depth > 0 && depth <= MAX_PARENTS) {
      parentSecrets[depth - 1] = value;
      continue;
    }
    if (
      ["driver", "filename", "file.filename", "member", ...KEY_SECRET].includes(name) ||
      WITHOUT_EFFECT.includes(name)
    ) {
      if (name !== "file.driver" || FILE_DRIVERS.includes(value)) continue;
    }
    throw new UsageError(
      `${path}: the option "${name}=${value}" is not supported; known: driver, file.filename, ` +
        "encrypt.key-secret, backing.driver, backing.file.filename, backing.encrypt.key-secret, member",
    );
  }
  const secret = KEY_SECRET.map((name) => options.get(name)).find((id) => id !== undefined);
  const member = options.get("member");
  const key = {
    ...(member !== undefined && { member }),
    ...(secret !== undefined && { secret }),
    ...(parent !== undefined && { parent }),
    ...(parentSecrets.length > 0 && { parentSecrets: Array.from(parentSecrets) }),
  };
  // A protocol alone: the format is found out from the content.
  if (driver === undefined || FILE_DRIVERS.includes(driver)) return { path, ...key };
  return { path, format: driver, ...key };
}

/** As `parseImageOpts`, for an image whose parent is to be its own. @throws UsageError */
export function parseOwnOpts(text: string): ImageOpts {
  const said = parseImageOpts(text);
  if (said.parent === undefined) return said;
  throw new UsageError(`${said.path}: options of its backing file are not supported here`);
}

export const TARGET_IMAGE_OPTS: ImgOption = {
  long: "target-image-opts",
  help: "with -n: the target is named as with --image-opts",
};

/** The last argument, which names an image that exists, as its file and format. @throws UsageError */
export function expandTargetOpts(given: Given): Given {
  const last = given.rest.at(-1);
  if (!given.flags.has("target-image-opts") || last === undefined) return given;
  if (!given.flags.has("n")) throw new UsageError("--target-image-opts requires use of -n flag");
  if (given.values.has("O")) throw new UsageError("--target-image-opts and -O are mutually exclusive");
  const { path, format, secret } = parseOwnOpts(last);
  return {
    ...given,
    rest: [...given.rest.slice(0, -1), path],
    values: format === undefined ? given.values : new Map([...given.values, ["O", [format]]]),
    keySecrets:
      secret === undefined ? (given.keySecrets ?? new Map()) : new Map([...(given.keySecrets ?? []), [path, secret]]),
  };
}

/**
 * Options given with --image-opts, or as "json:" names, as names of files and formats.
 * @param formats the options that give the formats of the images, in order; the last one is for those that follow
 * @param images how many of the arguments are images, from the first on
 */
export function expandImageOpts(given: Given, formats: readonly string[], images: number): Given {
  const all = given.flags.has("image-opts");
  if (!all && !given.rest.some((text) => text.startsWith("json:"))) return given;
  const values = new Map(given.values);
  const keySecrets = new Map<string, string>();
  const parentSecrets = new Map<string, readonly (string | undefined)[]>();
  const members = new Map<string, string>();
  const parents = new Map<string, ParentOpts | "none">();
  const rest = given.rest.map((text, i) => {
    if (i >= images || !(all || text.startsWith("json:"))) return text;
    const name = formats[Math.min(i, formats.length - 1)];
    if (all && given.values.has(name)) throw new UsageError("--image-opts and --format are mutually exclusive");
    const { path, format, secret, member, parent, parentSecrets: below } = parseImageOpts(text);
    if (parent !== undefined) parents.set(path, parent);
    if (member !== undefined) members.set(path, member);
    if (secret !== undefined) keySecrets.set(path, secret);
    if (below) parentSecrets.set(path, below);
    if (format !== undefined && !given.values.has(name)) values.set(name, [format]);
    return path;
  });
  return { ...given, values, rest, keySecrets, parentSecrets, members, parents };
}
