import type { CodeFile } from "./code.ts";
import type { Measurement } from "./measure.ts";
import { MODELS, type ModelName } from "./models.ts";
import type { Path, Step } from "./path.ts";
import type { LabResult } from "./run.ts";
import { compare, speedRatio } from "./speed.ts";
import { bytes, figure, number, PLAIN, type Style, table } from "./table.ts";

/** Columns of text. */
const WIDTH = 110;

/** The whole result, as text for a terminal or a file. */
export function textReport(result: LabResult, style: Style = PLAIN): string {
  return [
    style.strong("One read of 4 KiB, step by step"),
    ...result.paths.flatMap((path) => ["", ...pathLines(path, style)]),
    "",
    style.strong("What each model costs"),
    "",
    ...measurementLines(result.models, style),
    "",
    style.strong("How fast, beside bare metal"),
    "",
    ...speedLines(result, style),
    "",
    style.strong("How much code"),
    "",
    ...codeLines(result, style),
    "",
    ...verdictLines(result, style),
    "",
  ].join("\n");
}

/** Steps of one kind that follow each other, as one line. */
export interface StepGroup {
  layer: Step["layer"];
  /** What crossed, counted: "11 port accesses". */
  crossing: string;
  what: string;
}

const ACCESS: Partial<Record<Step["kind"], [one: string, many: string]>> = {
  register: ["register access", "register accesses"],
  in: ["port exit", "port exits"],
  out: ["port exit", "port exits"],
  load: ["MMIO exit", "MMIO exits"],
  store: ["MMIO exit", "MMIO exits"],
};

/** The steps of a path, accesses that follow each other together. */
export function groupSteps(path: Path): StepGroup[] {
  const groups: StepGroup[] = [];
  let run: Step[] = [];
  const close = () => {
    if (run.length === 0) return;
    const [one, many] = ACCESS[run[0].kind]!;
    const crossing = `${number(run.length)} ${run.length === 1 ? one : many}`;
    groups.push({ layer: run[0].layer, crossing, what: accessList(run) });
    run = [];
  };
  for (const step of path.steps) {
    const access = ACCESS[step.kind];
    if (run.length > 0 && access?.[0] !== ACCESS[run[0].kind]![0]) close();
    if (access) run.push(step);
    else {
      close();
      groups.push({ layer: step.layer, crossing: crossingOf(step), what: step.what });
    }
  }
  close();
  return groups;
}

function crossingOf({ kind, bytes: size }: Step): string {
  switch (kind) {
    case "hypercall":
      return "1 hypercall exit";
    case "interrupt":
      return "1 interrupt";
    case "shared":
      return `${number(size ?? 0)} bytes shared`;
    case "copy":
      return `${number(size ?? 0)} bytes copied`;
    default:
      return "";
  }
}

/** The registers touched, each with its value; repeated ones counted. */
function accessList(run: readonly Step[]): string {
  const items: { what: string; times: number; bytes: number }[] = [];
  for (const { what, bytes: width } of run) {
    const short = what.replace(/^0x[0-9A-F]+ /, "");
    const last = items[items.length - 1];
    if (last?.what === short) {
      last.times++;
      last.bytes += width ?? 0;
    } else items.push({ what: short, times: 1, bytes: width ?? 0 });
  }
  return items
    .map((item) => (item.times > 2 ? `${item.what} × ${number(item.times)} (${number(item.bytes)} bytes)` : item.what))
    .join(", ");
}

function pathLines(path: Path, style: Style): string[] {
  const groups = groupSteps(path);
  const wide = Math.max(...groups.map(({ crossing }) => crossing.length));
  const indent = 16 + wide + 2;
  const lines = groups.flatMap(({ layer, crossing, what }) => {
    const [first, ...rest] = wrap(what, WIDTH - indent);
    const name = (layer === "device" ? path.device : layer).padEnd(14);
    return [
      `  ${name}${style.strong(crossing.padEnd(wide))}  ${first}`,
      ...rest.map((line) => " ".repeat(indent) + style.faint(line)),
    ];
  });
  const sum = [
    `${number(path.exits)} ${path.exits === 1 ? "exit" : "exits"}`,
    `${path.interrupts} ${path.interrupts === 1 ? "interrupt" : "interrupts"}`,
    `${number(path.shared)} bytes described in shared memory`,
    `${number(path.copied)} bytes copied`,
  ];
  return [`  ${style.strong(path.title)} ${style.faint(`(${path.model}): ${sum.join(", ")}`)}`, ...lines];
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [""];
  for (const part of text.split(", ")) {
    const last = lines.length - 1;
    const joined = lines[last] === "" ? part : `${lines[last]}, ${part}`;
    if (joined.length <= width || lines[last] === "") lines[last] = joined;
    else {
      lines[last] += ",";
      lines.push(part);
    }
  }
  return lines;
}

function measurementLines(measurements: readonly Measurement[], style: Style): string[] {
  return table<Measurement>(
    [
      { title: "model", cell: ({ model }) => model },
      { title: "workload", cell: ({ workload }) => workload },
      { title: "block", cell: ({ blockSize }) => bytes(blockSize), right: true },
      { title: "queue", cell: ({ queueDepth }) => String(queueDepth), right: true },
      { title: "MB/s", cell: ({ mbPerSecond }) => figure(mbPerSecond), right: true },
      { title: "IOPS", cell: ({ iops }) => number(iops), right: true },
      { title: "exits/request", cell: ({ exitsPerRequest }) => figure(exitsPerRequest), right: true },
      { title: "interrupts/request", cell: ({ interruptsPerRequest }) => figure(interruptsPerRequest), right: true },
      { title: "bytes copied/byte", cell: ({ bytesCopiedPerByte }) => figure(bytesCopiedPerByte), right: true },
      {
        title: "data",
        cell: ({ verified }) => (verified ? "verified" : "WRONG"),
        style: (text, { verified }) => (verified ? style.good(text) : style.bad(text)),
      },
    ],
    measurements,
    style,
  );
}

function speedLines({ models }: LabResult, style: Style): string[] {
  const rows = compare(models);
  const names = [...new Set(models.map(({ model }) => model))];
  const base = names.includes("bare") ? "bare" : names[0];
  const lines = table(
    [
      { title: "workload", cell: ({ workload }) => workload },
      { title: "block", cell: ({ blockSize }) => bytes(blockSize), right: true },
      { title: "queue", cell: ({ queueDepth }) => String(queueDepth), right: true },
      ...names.map((name) => ({
        title: name,
        cell: (row: (typeof rows)[number]) => percent((row.iops[name] ?? Number.NaN) / (row.iops[base] ?? Number.NaN)),
        right: true,
      })),
    ],
    rows,
    style,
  );
  const note = "An exit costs a call here; where a processor leaves guest mode for it, a microsecond or two more.";
  return [...lines, "", ...claims(rows, names).map((line) => `  ${line}`), style.faint(`  ${note}`)];
}

/** Emulated IDE against each paravirtual disk. */
export function claims(rows: ReturnType<typeof compare>, names: readonly ModelName[]): string[] {
  const of = (kind: "full" | "para") => names.filter((name) => MODELS[name].figure === kind);
  return of("full").flatMap((full) =>
    of("para").map((para) => {
      const ratio = speedRatio(rows, full, para);
      return `${MODELS[full].title}: ${percent(ratio)} of the speed of the ${MODELS[para].title} (geometric mean).`;
    }),
  );
}

export function percent(ratio: number): string {
  if (!Number.isFinite(ratio)) return "–";
  return `${number(ratio * 100, ratio < 0.1 ? 1 : 0)} %`;
}

function codeLines({ code }: LabResult, style: Style): string[] {
  const list = (what: string, total: number, files: readonly CodeFile[]) => [
    `  ${what}: ${style.strong(number(total))} lines`,
    ...files.map(({ file, lines }) => style.faint(`  ${number(lines).padStart(7)}  ${file}`)),
  ];
  return [
    ...list("IDE emulation", code.ideLines, code.ideFiles),
    ...list("Back-end disk driver", code.backendLines, code.backendFiles),
    `  Emulating an IDE disk takes ${style.strong(`${number(code.ratio, 1)} times`)} the code of serving a paravirtual one.`,
  ];
}

function verdictLines({ models, faults, seed }: LabResult, style: Style): string[] {
  const total = models.reduce((sum, measurement) => sum + measurement.bytes, 0);
  if (faults.length === 0) {
    return [style.good(`Every byte read was right, in every model: ${bytes(total)} measured (seed ${seed}).`)];
  }
  return faults.map(({ model, doing, what }) => style.bad(`${model}, ${doing}: ${what}`));
}
