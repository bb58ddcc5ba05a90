// Apple's property lists in XML, as far as disk images have them (PropertyList-1.0.dtd). Strict: what is not well-formed, or not of
// that DTD, is refused; no entity but XML's own five and numbers.

export type Plist = string | number | boolean | Uint8Array | Plist[] | Map<string, Plist>;

const MAX_DEPTH = 32;
const ENTITIES: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };

/** @throws RangeError, with the character where it went wrong */
export function parsePlist(text: string): Plist {
  const reader = new Reader(text);
  reader.prolog();
  if (!/^<plist(?:\s+version\s*=\s*(?:"[^"<]*"|'[^'<]*'))?\s*>$/.test(reader.tag())) throw reader.wrong("is no plist");
  const value = reader.value(reader.tag(), 0);
  if (reader.tag() !== "</plist>") throw reader.wrong("is not the end of the plist");
  reader.blank();
  if (reader.at < text.length) throw reader.wrong("comes after the end");
  return value;
}

class Reader {
  readonly #text: string;
  at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  wrong(what: string): RangeError {
    return new RangeError(`what stands before character ${this.at} ${what}`);
  }

  /** Skips white space and comments. */
  blank(): void {
    const text = this.#text;
    for (;;) {
      while (" \t\r\n".includes(text[this.at] ?? "x")) this.at++;
      if (!text.startsWith("<!--", this.at)) return;
      this.at = this.#after("-->", this.at + 4);
    }
  }

  prolog(): void {
    if (this.#text.startsWith("\ufeff")) this.at = 1;
    if (this.#text.startsWith("<?xml", this.at)) this.at = this.#after("?>", this.at);
    this.blank();
    if (!this.#text.startsWith("<!DOCTYPE", this.at)) return;
    const start = this.at;
    this.at = this.#after(">", start);
    // Entities could be declared between brackets.
    if (this.#text.slice(start, this.at).includes("[")) throw this.wrong("declares a DTD of its own");
  }

  /** The next tag, which nothing but white space and comments may come before. */
  tag(): string {
    this.blank();
    if (this.#text[this.at] !== "<") throw this.wrong("is not followed by a tag");
    const start = this.at;
    this.at = this.#after(">", start);
    return this.#text.slice(start, this.at);
  }

  value(tag: string, depth: number): Plist {
    if (depth > MAX_DEPTH) throw this.wrong("is nested too deeply");
    switch (tag) {
      case "<dict>":
        return this.#dict(depth);
      case "<array>":
        return this.#array(depth);
      case "<string>":
        return this.#content("string");
      case "<date>":
        return this.#content("date");
      case "<data>":
        return this.#data();
      case "<integer>":
      case "<real>":
        return this.#number(tag.slice(1, -1));
      case "<true/>":
        return true;
      case "<false/>":
        return false;
      case "<dict/>":
        return new Map();
      case "<array/>":
        return [];
      case "<string/>":
        return "";
      case "<data/>":
        return new Uint8Array(0);
      default:
        throw this.wrong("is no element of a plist");
    }
  }

  #dict(depth: number): Map<string, Plist> {
    const map = new Map<string, Plist>();
    for (;;) {
      const tag = this.tag();
      if (tag === "</dict>") return map;
      if (tag !== "<key>") throw this.wrong("is no key");
      const key = this.#content("key");
      if (map.has(key)) throw this.wrong("is a key that is there already");
      map.set(key, this.value(this.tag(), depth + 1));
    }
  }

  #array(depth: number): Plist[] {
    const list: Plist[] = [];
    for (;;) {
      const tag = this.tag();
      if (tag === "</array>") return list;
      list.push(this.value(tag, depth + 1));
    }
  }

  #number(name: string): number {
    const text = this.#content(name).trim();
    const value = Number(text);
    if (text === "" || Number.isNaN(value)) throw this.wrong("is no number");
    return value;
  }

  #data(): Uint8Array {
    const packed = this.#content("data").replace(/[ \t\r\n]+/g, "");
    if (packed.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(packed)) throw this.wrong("is not base64");
    return Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
  }

  /** Text up to the end tag, entities resolved. */
  #content(name: string): string {
    const start = this.at;
    const end = this.#text.indexOf("<", start);
    if (end < 0 || !this.#text.startsWith(`</${name}>`, end)) throw this.wrong(`does not end with </${name}>`);
    this.at = end + name.length + 3;
    return this.#text.slice(start, end).replace(/&([^;]{0,10});?/g, (_, entity: string) => {
      const number = /^#(?:x([0-9a-f]{1,6})|([0-9]{1,7}))$/i.exec(entity);
      const code = number && Number.parseInt(number[1] ?? number[2], number[1] ? 16 : 10);
      if (code && code <= 0x10ffff) return String.fromCodePoint(code);
      if (!Object.hasOwn(ENTITIES, entity)) throw this.wrong("has an entity that is not known");
      return ENTITIES[entity];
    });
  }

  #after(what: string, from: number): number {
    const at = this.#text.indexOf(what, from);
    if (at < 0) throw new RangeError(`there is no ${what} after character ${from}`);
    return at + what.length;
  }
}
