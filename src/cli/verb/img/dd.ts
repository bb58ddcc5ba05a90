import { readBytes, writeBytes } from "../../../host/block/bytes.ts";
import type { Disk } from "../../../host/block/open.ts";
import { copyDisk } from "../../../host/image/copy.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible } from "./command.ts";
import { encrypted } from "./encrypt.ts";
import { sameFile } from "./files.ts";
import { expandImageOpts, IMAGE_OPTS } from "./image-opts.ts";
import { ourFormat } from "./names.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, lastOf, SHARE, sizeOf } from "./options.ts";
import { Secrets } from "./secrets.ts";
import { isDevice, makeTarget } from "./target.ts";

const OPERANDS = ["bs", "count", "if", "of", "skip"];
const CHUNK = 1 << 20;
const SECTOR = 512;

export const dd: ImgVerb = {
  name: "dd",
  summary: "copies a part of a disk, in dd's words",
  usage: "[-f FMT] [-O FMT] [-n] [bs=SIZE] [count=N] [skip=N] if=FILE of=FILE",
  description: [
    "As qemu-img dd: count says how many blocks of the input there are, and skip of them are left out, so that count=3",
    "skip=1 copies two. The target has the size of what is copied, and appears once it is whole.",
  ].join("\n"),
  options: [
    { short: "f", value: "FMT", help: "the input's format (default: by its content)" },
    { short: "O", value: "FMT", help: "the output's: raw (default), vpc, vhdx, vdi, vmdk, parallels, luks or qcow2" },
    { short: "n", help: "write into an image that exists, from its start" },
    { ...IMAGE_OPTS, help: "the input is named by driver=FMT,file.filename=PATH" },
    ALLOW,
    SHARE,
  ],
  examples: [["paravane img dd -O qcow2 bs=1M count=64 if=disk.vhd of=start.qcow2", "the first 64 MiB"]],

  async run(words, ui) {
    const operands = new Map<string, string>();
    for (const word of words.rest) {
      const [, name, value] = /^([^=]*)=(.*)$/s.exec(word) ?? [];
      if (name === undefined || !OPERANDS.includes(name)) {
        throw new UsageError(`unrecognized operand ${name ?? word}; known: ${OPERANDS.join("=, ")}=`);
      }
      operands.set(name, value);
    }
    const [input, to] = [operands.get("if"), operands.get("of")];
    if (input === undefined || to === undefined) throw new UsageError("Must specify both input and output files");
    const given = expandImageOpts({ ...words, rest: [input] }, ["f"], 1);
    const [from] = given.rest;
    if (sameFile(from, to)) throw new UsageError("input and output are the same file");
    const number = (name: string, usual: number) => {
      const text = operands.get(name);
      return text === undefined ? usual : sizeOf(text, name);
    };
    const block = number("bs", SECTOR);
    if (block < 1 || block > 0x7fffffff)
      throw new UsageError("Invalid bs specified. Must be between 1 and 2147483647.");
    const format = ourFormat(lastOf(given, "O") ?? "raw");
    const secrets = new Secrets(given);
    if (format === "luks" && !secrets.passphrase()) {
      throw new UsageError("a LUKS image needs a passphrase: give --passphrase-file PATH");
    }
    const options = encrypted(format, {}, secrets);
    const left = given.flags.has("n") ? `${to} is partly written` : `${from} is unchanged, and no ${to} was made`;
    return interruptible(ui, left, (signal) =>
      withDisk(openNamed(from, openingOf(given)), async (source) => {
        const end = Math.min(source.size, number("count", Number.POSITIVE_INFINITY) * block);
        const start = number("skip", 0) * block;
        if (start > end) ui.note(`${from}: cannot skip to specified offset`);
        const length = Math.max(0, end - start);
        const fill = (target: Disk, fresh: boolean) => copyPart(source, target, { start, length, fresh, signal });
        if (!given.flags.has("n")) {
          const made = { path: to, format, size: length, options, signal };
          await makeTarget(made, (target) => fill(target, !isDevice(to)));
          return 0;
        }
        return withDisk(openNamed(to, { ...openingOf(given, "O"), format, write: true }), async (target) => {
          if (target.size < length) throw new UsageError(`${to} has ${target.size} bytes, too few for ${length}`);
          await fill(target, false);
          return 0;
        });
      }),
    );
  },
};

interface Part {
  start: number;
  length: number;
  fresh: boolean;
  signal: AbortSignal;
}

async function copyPart(source: Disk, target: Disk, { start, length, fresh, signal }: Part): Promise<void> {
  const unit = Math.max(source.sectorSize, target.sectorSize);
  const whole = start % unit === 0 ? Math.floor(length / unit) * unit : 0;
  if (whole > 0) await copyDisk(source, target, { from: start, length: whole, fresh, signal });
  // Places that are no whole sectors, and the end of the last block.
  for (let at = whole; at < length; at += CHUNK) {
    signal.throwIfAborted();
    const size = Math.min(CHUNK, length - at);
    const bytes = new Uint8Array(Math.ceil(size / target.sectorSize) * target.sectorSize);
    if (size < bytes.length && !fresh) bytes.set(await readBytes(target, at, bytes.length));
    bytes.set(await readBytes(source, start + at, size));
    await writeBytes(target, at, bytes);
  }
}
