import type { Measurement } from "./measure.ts";
import { modelOf } from "./models.ts";
import { claims, groupSteps, percent } from "./report.ts";
import type { LabResult } from "./run.ts";
import { compare } from "./speed.ts";
import { type Bar, barChart, figureSvg } from "./svg.ts";
import { bytes, figure, number } from "./table.ts";

/** The whole result as one HTML file: no script, no font, no picture from elsewhere; light or dark as the reader has it. */
export function htmlReport(result: LabResult): string {
  const { models: measurements, paths, code, faults, seed, disk } = result;
  const names = [...new Set(measurements.map(({ model }) => model))];
  const rows = compare(measurements);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Paravane lab</title>
<style>${STYLE}</style>
</head>
<body>
<header>
<h1>One disk, ${WORDS[names.length] ?? names.length} to reach it</h1>
<p class="lead">The same ${bytes(disk.size)} disk, the same workloads, the same bytes. What differs is who stands between the guest’s driver and the
host’s file, and how often the guest must stop and wait for them.</p>
<p class="verdict ${faults.length === 0 ? "good" : "bad"}">${verdict(result)}</p>
</header>

<section>
<h2>The way of one 4 KiB read</h2>
<div class="figures">
${figures(result)}
</div>
</section>

<section>
<h2>What each model costs</h2>
${charts(measurements)}
${measurementTable(measurements)}
</section>

<section>
<h2>The mission’s two claims, measured</h2>
<div class="claims">
<div><p class="big">${number(code.ratio, 1)}×</p>
<p>the code: emulating an IDE disk takes ${number(code.ideLines)} lines, the back end of a paravirtual disk ${number(code.backendLines)}.</p>
<details><summary>Files counted, without comments and blanks</summary>
<table>${[...code.ideFiles, ...code.backendFiles]
    .map(({ file, lines }) => `<tr><td><code>${html(file)}</code></td><td class="n">${number(lines)}</td></tr>`)
    .join("")}</table></details></div>
<div><p class="big">${headline(rows, names)}</p>
${claims(rows, names)
  .map((line) => `<p>${html(line)}</p>`)
  .join("")}
<p class="faint">An exit costs a call here. Where a processor leaves guest mode for it, it costs one or two microseconds more, and the
models lie further apart.</p></div>
</div>
</section>

<section>
<h2>Step by step</h2>
${paths
  .map(
    (
      path,
    ) => `<details><summary><b>${html(path.title)}</b> <span class="faint">${number(path.exits)} exits, ${path.interrupts}
interrupts, ${number(path.shared)} bytes described, ${number(path.copied)} bytes copied</span></summary>
<table class="steps">${groupSteps(path)
      .map(
        ({ layer, crossing, what }) =>
          `<tr><td>${html(layer === "device" ? path.device : layer)}</td><td class="n">${html(crossing)}</td><td>${html(what)}</td></tr>`,
      )
      .join("")}</table></details>`,
  )
  .join("\n")}
</section>

<footer><p>Rates count the time from submitting requests to their last completion. Every byte read was compared with what was
written last; each model’s region was read back by another. Seed ${seed}.</p></footer>
</body>
</html>
`;
}

/** By number of models. */
const WORDS = ["no way", "one way", "two ways", "three ways", "four ways", "five ways"];

function verdict({ models, faults }: LabResult): string {
  const total = models.reduce((sum, measurement) => sum + measurement.bytes, 0);
  if (faults.length === 0) return `Every byte read was right in every model: ${bytes(total)} measured.`;
  return faults.map(({ model, doing, what }) => html(`${model}, ${doing}: ${what}`)).join("<br>");
}

/** The three figures, each with the paths of its models. */
function figures({ paths }: LabResult): string {
  const titles = { bare: "Bare metal", full: "Fully virtualized", para: "Paravirtualized" } as const;
  return (["bare", "full", "para"] as const)
    .map((kind) => {
      const of = paths.filter(({ model }) => modelOf(model).figure === kind);
      if (of.length === 0) return "";
      return `<figure>${figureSvg(kind, of)}<figcaption><b>${titles[kind]}</b> ${CAPTIONS[kind]}</figcaption></figure>`;
    })
    .join("\n");
}

const CAPTIONS = {
  bare: "The driver touches the controller’s registers itself; the controller reads memory and interrupts.",
  full: "The driver believes the same, but each register it touches is a trap: the hypervisor stops the guest and a program plays the controller.",
  para: "The driver knows. It describes requests in memory that both sides share, and rings once for all of them.",
};

type Pick = (measurement: Measurement) => number;

function charts(measurements: readonly Measurement[]): string {
  const models = [...new Set(measurements.map(({ model }) => model))];
  const rows = compare(measurements);
  const blocks = new Set(rows.map(({ blockSize }) => blockSize)).size > 1;
  /** A chart for each kind of work; those that look the same are one. */
  const of = (pick: Pick, format: (value: number) => string, log = false) => {
    const found = new Map<string, { titles: string[]; bars: Bar[] }>();
    for (const { workload, blockSize, queueDepth } of rows) {
      const bars = models.flatMap((model) => {
        const is = (one: Measurement) => one.model === model && one.workload === workload;
        const one = measurements.find((m) => is(m) && m.blockSize === blockSize && m.queueDepth === queueDepth);
        if (!one) return [];
        return [{ label: model, value: pick(one), text: format(pick(one)), kind: modelOf(model).figure }];
      });
      const key = bars.map(({ text }) => text).join();
      const title = `${workload}, ${blocks ? `${bytes(blockSize)}, ` : ""}queue ${queueDepth}`;
      const same = found.get(key);
      if (same) same.titles.push(title);
      else found.set(key, { titles: [title], bars });
    }
    return [...found.values()].map(({ titles, bars }) => barChart(joined(titles, rows.length), bars, log)).join("\n");
  };
  return [
    chartGroup(
      "Throughput, MB/s",
      of(({ mbPerSecond }) => mbPerSecond, figure),
    ),
    chartGroup(
      "Requests a second",
      of(({ iops }) => iops, number),
    ),
    chartGroup(
      "Exits per request, on a logarithmic scale",
      of(({ exitsPerRequest }) => exitsPerRequest, coarse, true),
    ),
    chartGroup(
      "Bytes copied on the host for each byte asked for",
      of(({ bytesCopiedPerByte }) => bytesCopiedPerByte, coarse),
    ),
  ].join("\n");
}

/** Two digits: what differs less looks the same. */
function coarse(value: number): string {
  return value >= 10 ? number(value) : figure(Number(value.toPrecision(2)));
}

/** "random and mixed, queue 1": the titles of charts that are one. */
function joined(titles: readonly string[], all: number): string {
  if (titles.length === 1) return titles[0];
  if (titles.length === all) return "every workload";
  const parts = titles.map((title) => title.split(/, (.*)/));
  const queues = new Set(parts.map(([, queue]) => queue));
  return queues.size === 1 ? `${parts.map(([name]) => name).join(", ")}; ${parts[0][1]}` : titles.join("; ");
}

function chartGroup(title: string, content: string): string {
  return `<h3>${title}</h3>\n<div class="charts">${content}</div>`;
}

function measurementTable(measurements: readonly Measurement[]): string {
  const head = ["model", "workload", "block", "queue", "MB/s", "IOPS", "exits", "interrupts", "copies", "data"];
  return `<details open><summary>Every figure</summary><table><thead><tr>${head
    .map((title, i) => `<th${i > 1 && i < 9 ? ' class="n"' : ""}>${title}</th>`)
    .join("")}</tr></thead><tbody>${measurements
    .map((one) => {
      const cells = [
        bytes(one.blockSize),
        String(one.queueDepth),
        figure(one.mbPerSecond),
        number(one.iops),
        figure(one.exitsPerRequest),
        figure(one.interruptsPerRequest),
        figure(one.bytesCopiedPerByte),
      ];
      return `<tr><td>${one.model}</td><td>${one.workload}</td>${cells.map((cell) => `<td class="n">${cell}</td>`).join("")}<td class="${
        one.verified ? "good" : "bad"
      }">${one.verified ? "verified" : "wrong"}</td></tr>`;
    })
    .join(
      "",
    )}</tbody></table><p class="faint">Exits and interrupts are per request, copies are bytes per byte.</p></details>`;
}

/** The fraction of a paravirtual disk's speed that emulation reaches: its best and its worst way. */
function headline(rows: ReturnType<typeof compare>, names: readonly (keyof (typeof rows)[number]["iops"])[]): string {
  const best = (kind: "full" | "para") => names.filter((name) => modelOf(name).figure === kind);
  const ratios = rows.flatMap(({ iops }) => {
    const para = Math.max(...best("para").map((name) => iops[name] ?? 0));
    return best("full").flatMap((name) => (iops[name] && para > 0 ? [iops[name] / para] : []));
  });
  if (ratios.length === 0) return "–";
  return `${percent(Math.min(...ratios))} – ${percent(Math.max(...ratios))}`;
}

function html(text: string): string {
  return text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

const STYLE = `
:root { color-scheme: light dark; --ink: #1c2024; --faint: #697177; --paper: #fcfcfb; --line: #dfe1e0; --panel: #f3f4f2;
  --bare: #7a8594; --full: #c4622d; --para: #1d7a78; --good: #1f7a45; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8e8; --faint: #98a1a6; --paper: #15181a; --line: #32383b; --panel: #1d2123;
  --bare: #94a0ae; --full: #e08a57; --para: #4fb3af; --good: #6cc28f; --bad: #f08a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 3.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; font-variant-numeric: tabular-nums; }
h1 { font-size: clamp(1.9rem, 4vw, 2.8rem); line-height: 1.12; letter-spacing: -0.02em; font-weight: 650; margin: 0 0 1rem; }
h2 { font-size: 1.4rem; letter-spacing: -0.01em; font-weight: 620; margin: 3.5rem 0 1rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; font-weight: 600; margin: 2rem 0 .6rem; }
p { max-width: 46rem; margin: .5rem 0; } .lead { font-size: 1.15rem; color: var(--faint); }
.verdict { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); } .faint, figcaption, footer { color: var(--faint); font-size: .9rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1.5rem; }
figure { margin: 0; padding: 1rem; background: var(--panel); border-radius: 10px; } figcaption b { color: var(--ink); display: block; font-size: 1rem; }
figure svg { width: 100%; height: auto; display: block; margin-bottom: .75rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1.25rem 1.75rem; } .charts svg { width: 100%; height: auto; display: block; }
svg text { font-family: inherit; fill: var(--ink); } svg .faint { fill: var(--faint); } svg .box { fill: var(--paper); stroke: var(--line); }
svg .bare { fill: var(--bare); } svg .full { fill: var(--full); } svg .para { fill: var(--para); } svg .track { fill: var(--panel); }
svg .wire { stroke: var(--faint); fill: none; } svg .head { fill: var(--faint); }
table { border-collapse: collapse; width: 100%; font-size: .88rem; margin: .75rem 0; } th { text-align: left; font-weight: 550; color: var(--faint); }
th, td { padding: .28rem .9rem .28rem 0; border-bottom: 1px solid var(--line); vertical-align: top; } .n { text-align: right; white-space: nowrap; }
details { margin: .75rem 0; overflow-x: auto; } summary { cursor: pointer; } code { font-size: .85em; } .steps td:first-child { white-space: nowrap; }
.claims { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 2rem; }
.big { font-size: 2.6rem; font-weight: 650; letter-spacing: -0.03em; line-height: 1.1; margin: 0 0 .4rem; }
footer { margin-top: 3.5rem; padding-top: 1rem; border-top: 1px solid var(--line); }
@media print { body { max-width: none; } }
`;
