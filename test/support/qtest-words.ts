import { IDENTIFY_PACKET, type Loose, looseWords } from "./qtest-cd-words.ts";
import type { Program } from "./qtest-program.ts";

/** Words of IDENTIFY DEVICE that differ on purpose, and what ATA/ATAPI-6 §8.15 says of them. */
export const IDENTIFY: ReadonlyMap<number, string> = new Map([
  [4, "retired: unformatted bytes a track"],
  [5, "retired: unformatted bytes a sector"],
  [20, "retired: buffer type"],
  [21, "retired: buffer size"],
  [22, "obsolete: ECC bytes of READ LONG"],
  [48, "reserved; ATA-2 had 32-bit transfers here, which a PCI controller splits in any case"],
  [54, "current translation; QEMU tells the default one whatever INITIALIZE DEVICE PARAMETERS has set"],
  [55, "54, heads"],
  [56, "54, sectors a track"],
  [57, "54, capacity"],
  [58, "54, capacity"],
  [59, "sectors of READ MULTIPLE as set now; QEMU tells those of its first IDENTIFY"],
  [82, "what we support more: SECURITY, HPA, device reset, NOP, READ and WRITE BUFFER"],
  [83, "what we support more: AAM, SET MAX security, DCO"],
  [84, "what we support more: logging, WRITE UNCORRECTABLE, IDLE IMMEDIATE with unload"],
  [85, "82, as enabled"],
  [86, "83, as enabled"],
  [87, "84, as enabled"],
  [89, "time of SECURITY ERASE UNIT"],
  [90, "time of enhanced SECURITY ERASE UNIT"],
  [92, "master password revision"],
  [94, "automatic acoustic management levels"],
  [105, "ACS-2: blocks of ranges that DATA SET MANAGEMENT takes"],
  [106, "bit 13 says more than one logical sector a physical one; QEMU sets it for one"],
  [119, "what we support more: WRITE UNCORRECTABLE"],
  [120, "119, as enabled"],
  [128, "security status"],
  [255, "integrity word; QEMU 7.2 has none"],
]);

/** The same of SMART READ DATA (ATA/ATAPI-6 §8.51.5), whose bytes 2 to 361 are the vendor's. */
export const SMART_DATA: ReadonlyMap<number, string> = new Map([
  ...[1, 7, 13, 15, 19, 21, 25, 27, 31, 33, 37, 40, 41, 43, 44, 45, 46, 49, 50, 51].map((word): [number, string] => [
    word,
    "vendor's: flags, values and raw values of attributes, and two more of them",
  ]),
  [181, "status of off-line collection and of the last self-test: ours aborts and finishes them, QEMU's never ran"],
  [182, "seconds of off-line collection"],
  [183, "capability of off-line collection: ours has the automatic one (bit 1), QEMU's not"],
  [186, "minutes of the short and of the extended self-test"],
  [187, "minutes of the conveyance self-test, and vendor's"],
  [255, "vendor's, and the checksum of all that"],
]);

/** SMART READ ATTRIBUTE THRESHOLDS, obsolete since ATA-4: thresholds of the two attributes that QEMU has not. */
export const SMART_THRESHOLDS: ReadonlyMap<number, string> = new Map([
  [43, "attribute 197"],
  [49, "attribute 199"],
  [255, "checksum"],
]);

/** SMART self-test log (§8.51, SMART READ LOG): 21 descriptors of 12 words from word 1 on, whose first five words tell of one test. */
export const SELF_TESTS: ReadonlyMap<number, string> = new Map([
  ...Array.from({ length: 21 * 5 }, (_, i): [number, string] => [
    1 + Math.floor(i / 5) * 12 + (i % 5),
    "how a test went and when: ours take their time and are aborted by commands, QEMU's are over, after 1234h hours",
  ]),
  [254, "index of the newest: what QEMU refuses is not counted there"],
  [255, "checksum"],
]);

const NONE: Loose = { words: new Map() };

/** What `command` reads, with what was in Features and LBA low when it was given. */
function expected(command: number, features: number, log: number): Loose {
  if (command === 0xec) return { words: IDENTIFY };
  if (command === 0xa1) return { words: IDENTIFY_PACKET };
  if (command !== 0xb0) return NONE;
  if (features === 0xd0) return { words: SMART_DATA };
  if (features === 0xd1) return { words: SMART_THRESHOLDS };
  return features === 0xd5 && log === 6 ? { words: SELF_TESTS } : NONE;
}

/** Follows which words of a command's data a program reads. */
export class DataWords {
  #expected = NONE;
  #at = 0;
  #features = 0;
  #lbaLow = 0;
  /** Where a packet command is. */
  #packet: "none" | "awaited" | "given" = "none";
  #bytes: number[] = [];
  /** The last packet has failed, and nobody has asked for its sense data. */
  #freshSense = false;

  /** Are there words that may differ? */
  get loose(): boolean {
    return this.#expected.words.size > 0;
  }

  /** `before` is the status that the step met; `after` the one it left; `moved` how often it has read the data port. */
  step(step: Program[number], before: number, after = 0, moved = 0): void {
    if (this.#packet !== "awaited" && (step.do === "drain" || step.do === "block")) this.#at += moved * wordsOf(step);
    if (step.do === "packet" && this.#packet === "awaited") this.#bytes.push(...step.bytes);
    if (this.#packet === "awaited" && this.#bytes.length >= 12) {
      this.#packet = "given";
      this.#expected = looseWords(this.#bytes, this.#freshSense);
      this.#freshSense = false;
      this.#at = 0;
    }
    if (step.do === "out") this.#written(step.register, step.value, before, after);
    // A PACKET that is refused takes no packet.
    if (step.do === "out" && step.register === 7 && (after & 0x08) === 0) this.#packet = "none";
    if (this.#packet === "given" && (after & 1) !== 0) this.#freshSense = true;
  }

  #written(register: number, value: number, before: number, after: number): void {
    // A disk that has data to give does not hear DEVICE RESET.
    const reset = register === 8 ? (value & 4) !== 0 : register === 7 && value === 8 && (after & 0x08) === 0;
    if (reset) {
      this.#packet = "none";
      this.#freshSense = false;
      this.#expected = NONE;
    }
    if ((before & 0x88) !== 0) return;
    if (register === 1) this.#features = value;
    if (register === 3) this.#lbaLow = value;
    if (register !== 7) return;
    this.#bytes = [];
    this.#packet = value === 0xa0 ? "awaited" : "none";
    this.#expected = expected(value, this.#features, this.#lbaLow);
    this.#at = 0;
  }

  /** Bits of the `i`th value that `step` reads that may differ. */
  mask(step: Program[number], i: number): number {
    if (step.do !== "drain" && step.do !== "block") return 0;
    const words = wordsOf(step);
    const word = this.#at + i * words;
    return this.#bits(word) | (words === 2 ? this.#bits(word + 1) << 16 : 0);
  }

  #bits(word: number): number {
    const { words, bits } = this.#expected;
    return words.has(word) ? (bits?.get(word) ?? 0xffff) : 0;
  }
}

/** Words that one access moves. */
const wordsOf = (step: Program[number]): number => (step.do === "drain" && step.width === 4 ? 2 : 1);
