import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import type { Bench } from "./bench.ts";
import { convertBenches, convertTable, packedBenches } from "./convert.ts";
import { formatBenches, formatTable } from "./formats.ts";
import { compare, type Result } from "./harness.ts";
import { ideBenches } from "./ide.ts";
import { largeBenches, largeTable } from "./large.ts";
import { mapBenches } from "./map.ts";
import { modelBenches } from "./models.ts";
import { virtqueueBenches } from "./ring-virtqueue.ts";
import { xenBenches } from "./ring-xen.ts";
import { coreTable, modelTable } from "./tables.ts";

const USAGE = `npm run bench -- [options] [word…]     benches whose name contains every word given; "models" is one,
                                       "formats" another; only when named: "large" (disks of terabytes),
                                       "convert" and "compress" (against qemu-img, minutes; more words choose among
                                       what "compress" converts: zlib, zstd, vmdk, stream)

  --quick       fewer rounds
  --json FILE   where the figures go (default build/bench.json)
  --in FOLDER   where the files of the last four go (default: the system's for temporary files); one in memory, such as
                /dev/shm, leaves the disk's own moods out
  --help`;

const ROUNDS = 11;
const QUICK_ROUNDS = 3;
const benches: Bench[] = [...xenBenches, ...virtqueueBenches, ...mapBenches, ...ideBenches];

function options() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        quick: { type: "boolean", default: false },
        json: { type: "string", default: "build/bench.json" },
        in: { type: "string" },
        help: { type: "boolean", default: false },
        // How this program calls itself: run one bench, print its results as JSON.
        one: { type: "string" },
      },
    });
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
    process.exit(2);
  }
}

/** Each bench in a process of its own, so that no figure depends on what V8 learnt from the bench before. */
function inOwnProcess(bench: Bench, quick: boolean): Result[] {
  const args = [fileURLToPath(import.meta.url), "--one", bench.name, ...(quick ? ["--quick"] : [])];
  return JSON.parse(execFileSync(process.execPath, args, { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] }));
}

const { values, positionals } = options();
const rounds = values.quick ? QUICK_ROUNDS : ROUNDS;
if (values.help) {
  console.log(USAGE);
} else if (values.one !== undefined) {
  const bench = benches.find(({ name }) => name === values.one)!;
  console.log(JSON.stringify(compare(bench.contestants(), bench.operations, rounds)));
} else {
  const chosen = benches.filter(({ name }) => positionals.every((word) => name.includes(word)));
  const cores = chosen.map((bench) => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${bench.name} …`);
    return { name: bench.name, unit: bench.unit, results: inOwnProcess(bench, values.quick) };
  });
  if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  if (cores.length > 0) console.log(coreTable(cores));
  const models = positionals.every((word) => "models".includes(word)) ? await modelBenches(values.quick) : [];
  if (models.length > 0) console.log(`${cores.length > 0 ? "\n" : ""}${modelTable(models)}`);
  const formats = positionals.every((word) => "formats".includes(word))
    ? await formatBenches(values.quick, values.in)
    : [];
  if (formats.length > 0) console.log(`\n${formatTable(formats)}`);
  const named = positionals.join();
  const large = named === "large" ? await largeBenches(values.quick, values.in) : [];
  if (large.length > 0) console.log(`\n${largeTable(large)}`);
  const convert =
    named === "convert"
      ? await convertBenches(values.quick, values.in)
      : positionals[0] === "compress"
        ? await packedBenches(values.quick, values.in, positionals.slice(1))
        : [];
  if (convert.length > 0) console.log(`\n${convertTable(convert)}`);
  if (cores.length + models.length + formats.length + large.length + convert.length === 0) {
    process.stderr.write(
      `No bench is named so. There are: models, formats, large, convert, compress, ${benches.map(({ name }) => name).join("; ")}\n`,
    );
    process.exit(2);
  }
  const machine = { node: process.version, cpu: cpus()[0]?.model ?? "unknown", cores: cpus().length };
  writeFileSync(
    values.json,
    `${JSON.stringify({ machine, rounds, cores, models, formats, large, convert }, null, 2)}\n`,
  );
  console.log(`\n${values.json}: the figures`);
}
