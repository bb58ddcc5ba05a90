/** Control and format characters: what a terminal obeys, line breaks, what turns the direction of writing. */
const UNPRINTABLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
/** Characters of a message. */
const MOST = 1000;

/** Text out of an image, or with such in it, as one line that changes nothing but itself where it is shown. */
export function printable(text: string): string {
  return text.replace(UNPRINTABLE, "\ufffd");
}

/** The same, and no longer than a person reads. */
export function oneLine(text: string): string {
  return printable(text.length <= MOST ? text : `${text.slice(0, MOST - 200)} … ${text.slice(-150)}`);
}
