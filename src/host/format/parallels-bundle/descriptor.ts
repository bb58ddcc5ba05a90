// DiskDescriptor.xml of a Parallels disk bundle (QEMU, docs/interop/prl-xml.txt): storages, each a part of the disk, with an image
// for each snapshot; and how snapshots follow one another.
import type { Flow } from "../../../core/flow.ts";
import type { Store } from "../../../core/store.ts";
import { corrupt, read, textAt, unsupported } from "../io.ts";
import { type Element, parseXml } from "../xml.ts";

const SECTOR = 512;
const ROOT = "Parallels_disk_image";
const NONE = "{00000000-0000-0000-0000-000000000000}";
/** What the newest state is where the descriptor does not say. */
const USUAL_TOP = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
const GUID = /^\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}$/;
const MAX_BYTES = 2 ** 20;
/** Longer ones, in which a snapshot follows itself, end here too. */
const MAX_CHAIN = 100;

/** One file: bytes [0, to - from) of its storage. */
export interface Layer {
  guid: string;
  file: string;
  /** The bytes are the disk's; else an expanding disk. */
  plain: boolean;
}
/** Bytes [from, to) of the disk. */
export interface Storage {
  from: number;
  to: number;
  /** Newest first. */
  layers: readonly Layer[];
}
export interface Descriptor {
  size: number;
  storages: readonly Storage[];
  /** Snapshots, from the newest state to the first. */
  chain: readonly string[];
  geometry: { cylinders: number; heads: number };
}

/** Does a file that begins so hold the XML of a bundle? */
export function isDescriptor(head: Uint8Array): boolean {
  const text = textAt(head, 0, head.length);
  return /^(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]*\?>\s*)?(?:<!--[\s\S]*?-->\s*)*<Parallels_disk_image[\s>]/.test(text);
}

/** @throws ParavaneError CORRUPT, UNSUPPORTED, naming the element */
export function* readDescriptor(store: Store): Flow<Descriptor> {
  const wrong = (structure: string, what: string) => corrupt(store, structure, 0, what);
  if (store.size > MAX_BYTES) throw wrong("disk descriptor", `has ${store.size} bytes, more than ${MAX_BYTES}`);
  const bytes = yield* read(store, 0, store.size);
  let root: Element;
  try {
    root = parseXml(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (thrown) {
    if (!(thrown instanceof RangeError) && !(thrown instanceof TypeError)) throw thrown;
    throw wrong("disk descriptor", `is not well-formed: ${thrown.message}`);
  }
  if (root.name !== ROOT) throw wrong("disk descriptor", `is of <${root.name}>`);
  const version = root.attributes.get("Version");
  if (version !== "1.0") throw unsupported(store, ROOT, `version ${version} of disk descriptors is not known`);

  const all = (parent: Element, name: string) => parent.children.filter((child) => child.name === name);
  const one = (parent: Element, name: string): Element => {
    const found = all(parent, name);
    if (found.length === 1) return found[0];
    throw wrong(parent.name, `has ${found.length === 0 ? "no" : "more than one"} <${name}>`);
  };
  const text = (parent: Element, name: string): string => one(parent, name).text.trim();
  const number = (parent: Element, name: string): number => {
    const value = text(parent, name);
    const bytes = Number(value) * SECTOR;
    if (/^\d+$/.test(value) && Number.isSafeInteger(bytes)) return Number(value);
    throw wrong(name, `says "${value}"`);
  };
  const guid = (parent: Element, name: string): string => {
    const value = text(parent, name).toLowerCase();
    if (GUID.test(value)) return value;
    throw wrong(name, `says "${value}", which is no GUID`);
  };

  const parameters = one(root, "Disk_Parameters");
  for (const encryption of all(parameters, "Encryption")) {
    const engine = all(encryption, "Engine").map((element) => element.text.trim());
    if (engine.some((value) => value !== "" && value !== NONE)) {
      throw unsupported(store, "Encryption", "the disk is encrypted by Parallels", "Decrypt it there first");
    }
  }
  const size = number(parameters, "Disk_size") * SECTOR;
  const chain = chainOf();
  let end = 0;
  const storages = all(one(root, "StorageData"), "Storage").map((storage): Storage => {
    const [from, to] = [number(storage, "Start") * SECTOR, number(storage, "End") * SECTOR];
    if (from !== end || to <= from) throw wrong("Storage", `is of bytes ${from} to ${to}, but should begin at ${end}`);
    end = to;
    const images = all(storage, "Image").map((image): Layer => {
      const type = text(image, "Type");
      if (type !== "Plain" && type !== "Compressed") {
        throw unsupported(store, "Type", `images of type "${type}" are not known`);
      }
      return { guid: guid(image, "GUID"), file: text(image, "File"), plain: type === "Plain" };
    });
    const layers = chain.map((wanted, depth) => {
      const found = images.filter((image) => image.guid === wanted);
      if (found.length !== 1) throw wrong("Storage", `has ${found.length} images for snapshot ${wanted}`);
      if (found[0].plain && depth < chain.length - 1) {
        throw wrong("Image", `${found[0].file} is plain, but has the parent ${chain[depth + 1]}`);
      }
      return found[0];
    });
    return { from, to, layers };
  });
  if (end !== size) throw wrong("Disk_size", `says ${size} bytes, but the storages have ${end}`);
  const [cylinders, heads] = [number(parameters, "Cylinders"), number(parameters, "Heads")];
  return { size, storages, chain, geometry: { cylinders, heads } };

  /** From the newest state to the one that has no parent. */
  function chainOf(): string[] {
    const snapshots = all(root, "Snapshots");
    if (snapshots.length === 0) return [USUAL_TOP];
    const element = one(root, "Snapshots");
    const parents = new Map<string, string>();
    for (const shot of all(element, "Shot")) {
      const id = guid(shot, "GUID");
      if (parents.has(id)) throw wrong("Shot", `${id} is there twice`);
      parents.set(id, guid(shot, "ParentGUID"));
    }
    const top = all(element, "TopGUID").length > 0 ? guid(element, "TopGUID") : USUAL_TOP;
    const found: string[] = [];
    for (let next = top; next !== NONE; ) {
      const parent = parents.get(next);
      if (parent === undefined) throw wrong("Snapshots", `has no <Shot> for ${next}`);
      found.push(next);
      if (found.length > MAX_CHAIN) throw wrong("Snapshots", `has more than ${MAX_CHAIN} after one another, or a loop`);
      next = parent;
    }
    if (found.length === 0) throw wrong("Snapshots", "has no newest state");
    return found;
  }
}
