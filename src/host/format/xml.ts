// XML (W3C, Extensible Markup Language 1.0), as far as disk images have it, for small documents. Strict: what is not well-formed is
// refused, and so are document type definitions, processing instructions, CDATA, and entities but XML's own five and numbers.

export interface Element {
  name: string;
  attributes: ReadonlyMap<string, string>;
  children: readonly Element[];
  /** What stands between the tags, entities resolved; of an element with children, white space only. */
  text: string;
}

const MAX_DEPTH = 32;
const ENTITIES: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" };
const NAME = /[A-Za-z_][\w.:-]*/y;

/** The root element. @throws RangeError, with the character where it went wrong */
export function parseXml(text: string): Element {
  const reader = new Reader(text);
  reader.prolog();
  const root = reader.element(0);
  reader.blank();
  if (reader.at < text.length) throw reader.wrong("there is more after the end");
  return root;
}

class Reader {
  readonly #text: string;
  at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  wrong(what: string): RangeError {
    return new RangeError(`${what} (character ${this.at})`);
  }

  /** Skips white space and comments. */
  blank(): void {
    for (;;) {
      while (" \t\r\n".includes(this.#text[this.at] ?? "x")) this.at++;
      if (!this.#skip("<!--")) return;
      this.#until("-->");
    }
  }

  prolog(): void {
    this.#skip("\ufeff");
    if (this.#skip("<?xml")) this.#until("?>");
    this.blank();
    if (!this.#skip("<!DOCTYPE")) return;
    // Entities could be declared between brackets.
    if (this.#until(">").includes("[")) throw this.wrong("there is a document type definition");
    this.blank();
  }

  element(depth: number): Element {
    if (depth > MAX_DEPTH) throw this.wrong("elements are nested too deeply");
    if (!this.#skip("<")) throw this.wrong("an element should begin here");
    const name = this.#name();
    const attributes = this.#attributes();
    const element = { name, attributes, children: [] as Element[], text: "" };
    if (this.#skip("/>")) return element;
    this.#expect(">");
    let text = "";
    while (!this.#skip("</")) {
      if (this.#skip("<!--")) this.#until("-->");
      else if (this.#text[this.at] === "<") element.children.push(this.element(depth + 1));
      else text += this.#characters();
    }
    if (this.#name() !== name) throw this.wrong(`<${name}> ends as something else`);
    this.#space();
    this.#expect(">");
    if (element.children.length > 0 && text.trim() !== "") throw this.wrong(`<${name}> holds both text and elements`);
    element.text = text;
    return element;
  }

  #attributes(): Map<string, string> {
    const attributes = new Map<string, string>();
    while (this.#space() && !this.#ends()) {
      const name = this.#name();
      this.#space();
      this.#expect("=");
      this.#space();
      const quote = this.#skip('"') ? '"' : "'";
      if (quote === "'") this.#expect("'");
      const value = this.#until(quote);
      if (value.includes("<")) throw this.wrong("a value holds a tag");
      if (attributes.has(name)) throw this.wrong(`"${name}" is there twice`);
      attributes.set(name, this.#resolved(value));
    }
    return attributes;
  }

  #ends(): boolean {
    return this.#text[this.at] === ">" || this.#text.startsWith("/>", this.at);
  }

  /** Text up to the next tag. */
  #characters(): string {
    const end = this.#text.indexOf("<", this.at);
    if (end < 0) throw this.wrong("the document ends too early");
    const found = this.#text.slice(this.at, end);
    this.at = end;
    return this.#resolved(found);
  }

  #resolved(text: string): string {
    return text.replace(/&([^;]{0,10});?/g, (_, entity: string) => {
      const number = /^#(?:x([0-9a-f]{1,6})|([0-9]{1,7}))$/i.exec(entity);
      const code = number && Number.parseInt(number[1] ?? number[2], number[1] ? 16 : 10);
      if (code && code <= 0x10ffff) return String.fromCodePoint(code);
      if (!Object.hasOwn(ENTITIES, entity)) throw this.wrong("there is an entity that is not known");
      return ENTITIES[entity];
    });
  }

  #name(): string {
    NAME.lastIndex = this.at;
    const found = NAME.exec(this.#text)?.[0];
    if (found === undefined) throw this.wrong("a name should stand here");
    this.at += found.length;
    return found;
  }

  /** Skips white space; true when there was some. */
  #space(): boolean {
    const from = this.at;
    while (" \t\r\n".includes(this.#text[this.at] ?? "x")) this.at++;
    return this.at > from;
  }

  #skip(what: string): boolean {
    if (!this.#text.startsWith(what, this.at)) return false;
    this.at += what.length;
    return true;
  }

  #expect(what: string): void {
    if (!this.#skip(what)) throw this.wrong(`"${what}" should stand here`);
  }

  /** What comes before `what`, which is skipped too. */
  #until(what: string): string {
    const end = this.#text.indexOf(what, this.at);
    if (end < 0) throw this.wrong(`there is no "${what}" any more`);
    const found = this.#text.slice(this.at, end);
    this.at = end + what.length;
    return found;
  }
}
