import { ParavaneError } from "../../core/error.ts";
import type { Release } from "../../core/machine.ts";

/** xenstored's own limits (io/xs_wire.h; default quotas of a guest). */
const PATH_MAX = 3072;
const VALUE_MAX = 4096;
const NODES_PER_DOMAIN = 1000;
const WATCHES_PER_DOMAIN = 128;

const PATH = /^\/$|^(\/[\w@:.+-]+)+$/;

/** What a domain other than the owner may do with a node. */
type Access = "none" | "read" | "write" | "both";

/** A node's owner may do anything with it; so may domain 0. */
export interface Permissions {
  owner: number;
  /** For domains that `domains` does not name. */
  others: Access;
  domains?: ReadonlyMap<number, Access>;
}

interface Node {
  value: string;
  permissions: Permissions;
  readonly children: Map<string, Node>;
}

interface Watch {
  domain: number;
  path: string;
  call: (path: string) => void;
}

/** Undoes one change. */
type Undo = () => void;

/**
 * The store in which the two ends of a paravirtual device find each other: a tree of small strings with permissions and
 * watches (docs/misc/xenstore.txt). Watches fire in the order of the changes, after the change or the transaction.
 */
export class Xenstore {
  readonly #root: Node = { value: "", permissions: { owner: 0, others: "read" }, children: new Map() };
  readonly #watches = new Set<Watch>();
  readonly #owned = new Map<number, number>();
  readonly #changed: string[] = [];
  #undo: Undo[] | null = null;
  #firing = false;

  /** The store with the rights of `domain`. */
  as(domain: number): XenstoreClient {
    return new XenstoreClient(this, domain);
  }

  /** @throws ParavaneError NOT_FOUND, DENIED */
  read(domain: number, path: string): string {
    return this.#readable(domain, path).value;
  }

  exists(path: string): boolean {
    return this.#find(path) !== undefined;
  }

  /** Names of the children. @throws ParavaneError NOT_FOUND, DENIED */
  directory(domain: number, path: string): string[] {
    return [...this.#readable(domain, path).children.keys()];
  }

  /**
   * Creates what is missing of the path; new nodes inherit their parent's permissions and belong to their creator.
   * @throws ParavaneError DENIED, INVALID, NO_SPACE
   */
  write(domain: number, path: string, value: string): void {
    if (value.length > VALUE_MAX)
      throw new ParavaneError("INVALID", `xenstore values end at ${VALUE_MAX} bytes`, { path });
    this.transaction(() => {
      const node = this.#ensure(domain, path);
      const before = node.value;
      node.value = value;
      this.#undo!.push(() => (node.value = before));
      this.#changed.push(path);
    });
  }

  /** Removes the node and what is below it; nothing when it is not there. @throws ParavaneError DENIED */
  remove(domain: number, path: string): void {
    const node = this.#find(path);
    const cut = path.lastIndexOf("/");
    const parent = this.#find(path.slice(0, cut) || "/");
    if (!node || !parent || node === this.#root) return;
    this.#require(domain, node, "write", path);
    const name = path.slice(cut + 1);
    parent.children.delete(name);
    this.#count(node, -1);
    this.#undo?.push(() => {
      parent.children.set(name, node);
      this.#count(node, 1);
    });
    this.#fire(path);
  }

  /** Only its owner or domain 0. @throws ParavaneError NOT_FOUND, DENIED */
  setPermissions(domain: number, path: string, permissions: Permissions): void {
    const node = this.#find(path);
    if (!node) throw missing(path);
    if (domain !== 0 && (node.permissions.owner !== domain || permissions.owner !== domain)) throw denied(domain, path);
    const before = node.permissions;
    this.#own(before.owner, -1);
    this.#own(permissions.owner, 1);
    node.permissions = permissions;
    this.#undo?.push(() => {
      this.#own(permissions.owner, -1);
      this.#own(before.owner, 1);
      node.permissions = before;
    });
  }

  /**
   * All of `body`'s changes or, when it throws, none. Watches fire afterwards. The host is single-threaded, so nothing
   * can come between and a transaction never has to be tried again.
   */
  transaction<T>(body: () => T): T {
    const outer = this.#undo;
    const undo = (this.#undo = outer ?? []);
    const [steps, events] = [undo.length, this.#changed.length];
    try {
      return body();
    } catch (thrown) {
      while (undo.length > steps) undo.pop()!();
      this.#changed.length = events;
      throw thrown;
    } finally {
      this.#undo = outer;
      this.#drain();
    }
  }

  /**
   * Calls back with the path of every change at or below `path` that `domain` may read, and once at the start.
   * @throws ParavaneError NO_SPACE
   */
  watch(domain: number, path: string, call: (path: string) => void): Release {
    if (!PATH.test(path)) throw new ParavaneError("INVALID", "not a xenstore path", { path });
    const held = [...this.#watches].filter((watch) => watch.domain === domain).length;
    if (domain !== 0 && held >= WATCHES_PER_DOMAIN) {
      throw new ParavaneError("NO_SPACE", `domain ${domain} has ${WATCHES_PER_DOMAIN} xenstore watches already`, {
        path,
      });
    }
    const watch = { domain, path, call };
    this.#watches.add(watch);
    call(path);
    return () => this.#watches.delete(watch);
  }

  /** Forgets every watch of a domain that is gone or starts over. */
  unwatch(domain: number): void {
    for (const watch of this.#watches) if (watch.domain === domain) this.#watches.delete(watch);
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#root;
    for (const name of split(path)) {
      node = node.children.get(name);
      if (!node) return undefined;
    }
    return node;
  }

  #readable(domain: number, path: string): Node {
    const node = this.#find(path);
    if (!node) throw missing(path);
    this.#require(domain, node, "read", path);
    return node;
  }

  #ensure(domain: number, path: string): Node {
    if (path.length > PATH_MAX || !PATH.test(path)) throw new ParavaneError("INVALID", "not a xenstore path", { path });
    let node = this.#root;
    let created = false;
    for (const name of split(path)) {
      let child = node.children.get(name);
      if (!child) {
        if (!created) this.#require(domain, node, "write", path);
        created = true;
        child = this.#create(domain, node, name);
      }
      node = child;
    }
    if (!created) this.#require(domain, node, "write", path);
    return node;
  }

  #create(domain: number, parent: Node, name: string): Node {
    const owner = domain === 0 ? parent.permissions.owner : domain;
    if (domain !== 0 && (this.#owned.get(domain) ?? 0) >= NODES_PER_DOMAIN) {
      throw new ParavaneError("NO_SPACE", `domain ${domain} owns ${NODES_PER_DOMAIN} xenstore nodes already`);
    }
    const node: Node = { value: "", permissions: { ...parent.permissions, owner }, children: new Map() };
    parent.children.set(name, node);
    this.#own(owner, 1);
    this.#undo?.push(() => {
      parent.children.delete(name);
      this.#own(owner, -1);
    });
    return node;
  }

  #own(domain: number, by: number): void {
    this.#owned.set(domain, (this.#owned.get(domain) ?? 0) + by);
  }

  #count(node: Node, by: number): void {
    this.#own(node.permissions.owner, by);
    for (const child of node.children.values()) this.#count(child, by);
  }

  #may(domain: number, node: Node, want: "read" | "write"): boolean {
    const { owner, others, domains } = node.permissions;
    if (domain === 0 || domain === owner) return true;
    const access = domains?.get(domain) ?? others;
    return access === want || access === "both";
  }

  #require(domain: number, node: Node, want: "read" | "write", path: string): void {
    if (!this.#may(domain, node, want)) throw denied(domain, path);
  }

  #fire(path: string): void {
    this.#changed.push(path);
    this.#drain();
  }

  #drain(): void {
    if (this.#undo || this.#firing) return;
    this.#firing = true;
    try {
      for (let path = this.#changed.shift(); path !== undefined; path = this.#changed.shift()) {
        for (const watch of [...this.#watches]) {
          if (!this.#watches.has(watch) || !concerns(watch.path, path)) continue;
          const node = this.#find(path);
          if (!node || this.#may(watch.domain, node, "read")) watch.call(path);
        }
      }
    } finally {
      this.#firing = false;
    }
  }
}

/** The store with the rights of one domain. Paths that do not start with "/" are relative to /local/domain/<id>. */
export class XenstoreClient {
  readonly store: Xenstore;
  readonly domain: number;

  constructor(store: Xenstore, domain: number) {
    this.store = store;
    this.domain = domain;
  }

  path(path: string): string {
    return path.startsWith("/") ? path : `/local/domain/${this.domain}/${path}`;
  }
  read(path: string): string {
    return this.store.read(this.domain, this.path(path));
  }
  /** The value, or undefined when the node is not there or not readable. */
  get(path: string): string | undefined {
    try {
      return this.read(path);
    } catch {
      return undefined;
    }
  }
  /** A decimal node; `otherwise` when it is absent or not a whole number. */
  number(path: string, otherwise: number): number {
    const text = this.get(path) ?? "";
    const value = Number(text);
    return /^\d{1,15}$/.test(text) ? value : otherwise;
  }
  write(path: string, value: string | number): void {
    this.store.write(this.domain, this.path(path), String(value));
  }
  remove(path: string): void {
    this.store.remove(this.domain, this.path(path));
  }
  directory(path: string): string[] {
    return this.store.directory(this.domain, this.path(path));
  }
  transaction<T>(body: () => T): T {
    return this.store.transaction(body);
  }
  watch(path: string, call: (path: string) => void): Release {
    return this.store.watch(this.domain, this.path(path), call);
  }
}

const split = (path: string): string[] => (path === "/" ? [] : path.slice(1).split("/"));

/** A watch sees changes at its path and below, and the removal of what is above it. */
const concerns = (watched: string, changed: string): boolean =>
  watched === changed || changed.startsWith(watched === "/" ? "/" : `${watched}/`) || watched.startsWith(`${changed}/`);

const missing = (path: string) => new ParavaneError("NOT_FOUND", `no xenstore node ${path}`, { path });

const denied = (domain: number, path: string) =>
  new ParavaneError("DENIED", `domain ${domain} has no right to xenstore node ${path}`, { path, domain });
