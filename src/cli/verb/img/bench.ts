import { benchDisk } from "../../../host/image/bench.ts";
import { UsageError } from "../../usage.ts";
import { type ImgVerb, interruptible, progressOf } from "./command.ts";
import { openingOf, openNamed, withDisk } from "./open.ts";
import { ALLOW, CACHE, cacheOf, lastOf, QUIET, SHARE, sizeOf } from "./options.ts";

export const bench: ImgVerb = {
  name: "bench",
  summary: "how fast requests go through an image",
  usage: "[-f FMT] [-c COUNT] [-d DEPTH] [-s SIZE] [-S STEP] [-o OFFSET] [-w [--pattern BYTE]] FILE",
  description: "Reads one place after the other, several at a time. With -w it writes, which destroys what is there.",
  options: [
    { short: "c", value: "COUNT", help: "requests in all (default 75000)" },
    { short: "d", value: "DEPTH", help: "how many at a time (default 64)" },
    { short: "f", value: "FMT", help: "the image's format (default: by its content)" },
    { long: "flush-interval", value: "N", help: "with -w: flush after every N writes" },
    { long: "no-drain", help: "accepted: nothing waits for a flush but what stands behind it" },
    { short: "n", help: "accepted; Node has no native AIO" },
    { short: "i", value: "AIO", help: "accepted; Node has no native AIO" },
    { short: "o", value: "OFFSET", help: "where to begin (default 0)" },
    { long: "pattern", value: "BYTE", help: "with -w: what is written (default 0)" },
    { short: "s", value: "SIZE", help: "bytes of a request (default 4096)" },
    { short: "S", value: "STEP", help: "bytes from one request to the next (default: a request's size)" },
    { short: "w", help: "write" },
    CACHE,
    QUIET,
    ALLOW,
    SHARE,
  ],
  examples: [["paravane img bench -c 100000 disk.qcow2", "4 KiB reads, in order"]],
  imageOpts: ["f"],

  async run(given, ui) {
    const [file, ...more] = given.rest;
    if (file === undefined || more.length > 0) throw new UsageError("give one image; see: paravane img bench --help");
    cacheOf(given, "t");
    const number = (name: string, usual: number) => {
      const text = lastOf(given, name);
      return text === undefined ? usual : sizeOf(text, name.length === 1 ? `-${name}` : `--${name}`);
    };
    const [count, depth] = [number("c", 75000), number("d", 64)];
    const [size, offset] = [number("s", 4096), number("o", 0)];
    const step = number("S", 0) || size;
    const [pattern, flushInterval] = [number("pattern", 0), number("flush-interval", 0)];
    const writes = given.flags.has("w");
    if (count < 1 || depth < 1) throw new UsageError("-c and -d are 1 at least");
    if (pattern > 255) throw new UsageError("--pattern is a byte, 0 to 255");
    if (!writes && given.values.has("flush-interval"))
      throw new UsageError("--flush-interval is only available in write tests");
    if (flushInterval > 0 && flushInterval < depth) throw new UsageError("Flush interval can't be smaller than depth");
    const quiet = given.flags.has("q");
    return interruptible(ui, "the measurement is not complete", (signal) =>
      withDisk(openNamed(file, { ...openingOf(given), write: writes }), async (disk) => {
        if (!quiet) {
          ui.out(
            `Sending ${count} ${writes ? "write" : "read"} requests, ${size} bytes each, ${depth} in parallel ` +
              `(starting at offset ${offset}, step size ${step})`,
          );
          if (flushInterval > 0) ui.out(`Sending flush every ${flushInterval} requests`);
        }
        const onProgress = progressOf(given, ui, "bench");
        const options = { count, depth, size, offset, step, flushInterval, signal, ...(onProgress && { onProgress }) };
        const { seconds, bytes } = await benchDisk(disk, { ...options, ...(writes && { write: pattern }) });
        if (quiet) return 0;
        ui.out(`Run completed in ${seconds.toFixed(3)} seconds.`);
        const rate = bytes / 2 ** 20 / seconds;
        ui.out(`${Math.round(count / seconds)} requests/s, ${rate.toFixed(1)} MiB/s`);
        return 0;
      }),
    );
  },
};
