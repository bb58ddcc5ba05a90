// Apple's property lists in XML, as far as disk images have them (PropertyList-1.0.dtd).
import { type Element, parseXml } from "./xml.ts";

export type Plist = string | number | boolean | Uint8Array | Plist[] | Map<string, Plist>;

/** @throws RangeError that says what is wrong */
export function parsePlist(text: string): Plist {
  const { name, children, text: more } = parseXml(text);
  if (name !== "plist" || children.length !== 1 || more.trim() !== "") throw new RangeError("it is no property list");
  return read(children[0]);
}

function read(element: Element): Plist {
  const { name, text, children, attributes } = element;
  if (attributes.size > 0) throw new RangeError(`<${name}> has attributes`);
  if (name === "dict") return dictOf(element);
  if (name === "array") {
    noText(element);
    return children.map(read);
  }
  if (children.length > 0) throw new RangeError(`<${name}> holds elements`);
  switch (name) {
    case "string":
    case "date":
      return text;
    case "data":
      return dataOf(text);
    case "integer":
    case "real": {
      const value = text.trim() === "" ? Number.NaN : Number(text);
      if (Number.isNaN(value)) throw new RangeError(`<${name}> holds no number`);
      return value;
    }
    case "true":
    case "false":
      noText(element);
      return name === "true";
    default:
      throw new RangeError(`there is no <${name}> in property lists`);
  }
}

function dictOf(element: Element): Map<string, Plist> {
  noText(element);
  const { children } = element;
  const map = new Map<string, Plist>();
  for (let i = 0; i < children.length; i += 2) {
    const [key, value] = [children[i], children[i + 1]];
    if (key.name !== "key" || key.children.length > 0) throw new RangeError(`<${key.name}> stands for a key`);
    if (!value) throw new RangeError(`"${key.text.slice(0, 40)}" has no value`);
    if (map.has(key.text)) throw new RangeError(`"${key.text.slice(0, 40)}" is there twice`);
    map.set(key.text, read(value));
  }
  return map;
}

function noText({ name, text }: Element): void {
  if (text.trim() !== "") throw new RangeError(`<${name}> holds text`);
}

function dataOf(text: string): Uint8Array {
  const packed = text.replace(/[ \t\r\n]+/g, "");
  if (packed.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(packed)) throw new RangeError("<data> is not base64");
  return Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
}
