// The ways in which images name other files. Pure: nothing is looked up.

/** A host path as far as it is known, or why the name is none. */
export type FileName = { path: string; format?: string } | { refusal: string };

const SCHEME = /^([a-z][a-z0-9+.-]+):/i;
/** QEMU's names of formats that are not ours. */
const FORMATS: Record<string, string> = { vpc: "vhd" };

/** QEMU's name of a format as ours. */
export function formatOf(qemu: string): string {
  return FORMATS[qemu] ?? qemu;
}

/**
 * A name out of an image. Windows' ones come out with slashes; absolute ones of another host as the name alone, to be looked
 * for beside the image.
 */
export function parseFileName(name: string, windows: boolean, onWindows = false): FileName {
  if (name === "") return { refusal: "is empty" };
  if (name.includes("\0")) return { refusal: "holds a NUL" };
  const scheme = SCHEME.exec(name)?.[1].toLowerCase();
  if (scheme === undefined) return windows ? { path: hostPath(name, onWindows) } : { path: name };
  if (scheme === "json") return parseJson(name.slice(5));
  if (scheme !== "file") return { refusal: "is no file, but a URL or another kind of place" };
  if (!windows) return parseFileName(name.slice(5), false);
  // VHD's "MacX" locator: a file URL.
  try {
    const path = decodeURIComponent(new URL(name).pathname);
    return { path: hostPath(/^\/[a-z]:/i.test(path) ? path.slice(1) : path, onWindows) };
  } catch {
    return { refusal: "is no file URL" };
  }
}

function hostPath(name: string, onWindows: boolean): string {
  if (onWindows) return name;
  const path = name.replaceAll("\\", "/");
  // A drive, a volume or a share of another host.
  const foreign = /^[a-z]:/i.test(path) || path.startsWith("//");
  return foreign ? path.slice(path.lastIndexOf("/") + 1).replace(/^[a-z]:/i, "") : path;
}

/**
 * QEMU's "json:{…}": block device options, nested or with dotted keys. Only those that name a local file and its format are
 * understood; any other could change what is read. QEMU takes a relative name here from its working directory, which is
 * nowhere in the image: refused.
 */
function parseJson(text: string): FileName {
  const refuse = (what: string) => ({ refusal: `is a json: name ${what}` });
  const options = new Map<string, unknown>();
  try {
    flatten("", JSON.parse(text), options);
  } catch {
    return refuse("that does not parse");
  }
  const known = ["driver", "filename", "file", "file.driver", "file.filename"];
  for (const [key, value] of options) {
    if (!known.includes(key)) return refuse(`with the option "${key}", which is not supported`);
    if (typeof value !== "string") return refuse(`whose "${key}" is no text`);
  }
  const at = (key: string) => options.get(key) as string | undefined;
  const driver = at("driver");
  const files = ["file", "host_device", undefined];
  const direct = options.has("filename");
  const path = direct ? at("filename") : (at("file.filename") ?? at("file"));
  if (path === undefined || (direct && [...options.keys()].some((key) => /^file(\.|$)/.test(key)))) {
    return refuse("without one file name");
  }
  if (!files.includes(direct ? driver : at("file.driver"))) return refuse("for something that is no file");
  if (SCHEME.test(path)) return refuse("for something that is no file");
  if (!/^([a-z]:)?[\\/]/i.test(path)) return refuse("with a relative path, and nothing says relative to what");
  return direct || driver === undefined ? { path } : { path, format: formatOf(driver) };
}

function flatten(prefix: string, value: unknown, into: Map<string, unknown>): void {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    if (prefix === "" || into.has(prefix)) throw new Error("not an object");
    into.set(prefix, value);
    return;
  }
  for (const [key, inner] of Object.entries(value)) flatten(prefix === "" ? key : `${prefix}.${key}`, inner, into);
}
