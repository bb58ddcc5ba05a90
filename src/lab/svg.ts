import type { Path } from "./path.ts";
import { figure, number } from "./table.ts";

export interface Bar {
  label: string;
  value: number;
  text: string;
  /** Its colour. */
  kind: "bare" | "full" | "para";
}

const BAR = 20;
const WIDE = 320;
const LEFT = 62;
const RIGHT = 70;

/** Horizontal bars under a heading. On a logarithmic scale the axis starts at a hundredth, so that 0 is no bar. */
export function barChart(title: string, bars: readonly Bar[], log: boolean): string {
  const scale = (value: number) => (log ? Math.max(0, Math.log10(value / 0.01)) : value);
  const most = Math.max(...bars.map(({ value }) => scale(value)), Number.MIN_VALUE);
  const height = 22 + bars.length * BAR;
  const rows = bars.map(({ label, value, text, kind }, i) => {
    const y = 22 + i * BAR;
    const room = WIDE - LEFT - RIGHT;
    const width = value > 0 ? Math.max(1.5, (scale(value) / most) * room) : 0;
    return `<text x="0" y="${y + 12}" font-size="12">${label}</text><rect class="track" x="${LEFT}" y="${y + 2}" width="${room}" height="13" rx="2"/><rect class="${kind}" x="${LEFT}" y="${y + 2}" width="${width.toFixed(1)}" height="13" rx="2"/><text x="${WIDE - RIGHT + 6}" y="${y + 12}" font-size="12">${text}</text>`;
  });
  return `<svg viewBox="0 0 ${WIDE} ${height}" role="img" aria-label="${title}"><text class="faint" x="0" y="12" font-size="12">${title}</text>${rows.join("")}</svg>`;
}

interface Box {
  text: string;
  /** Whose it is. */
  side: "guest" | "host" | "hardware" | "";
  kind?: "full" | "para" | "bare";
}

const BOX = 34;
const GAP = 46;
const X = 1;
const W = 150;

/**
 * One of the three figures: the layers a read passes from application to host file, and beside each border between two of
 * them what crossed it, for every model of that figure.
 */
export function figureSvg(kind: "bare" | "full" | "para", paths: readonly Path[]): string {
  const side = kind === "bare" ? "" : "guest";
  const boxes: Box[] = [
    { text: "Application", side },
    { text: kind === "para" ? "Front-end driver" : "ATA driver", side },
  ];
  if (kind === "bare") boxes.push({ text: "IDE controller", side: "hardware", kind });
  else {
    boxes.push({ text: "Hypervisor", side: "", kind });
    boxes.push({ text: kind === "para" ? "Back end" : paths[0].device, side: "host", kind });
  }
  boxes.push({ text: "Host file", side: kind === "bare" ? "hardware" : "host" });
  const height = boxes.length * BOX + (boxes.length - 1) * GAP + 12;
  const parts = boxes.map((box, i) => {
    const y = 6 + i * (BOX + GAP);
    const accent = box.kind ? `<rect class="${box.kind}" x="${X}" y="${y}" width="4" height="${BOX}"/>` : "";
    return `<rect class="box" x="${X}" y="${y}" width="${W}" height="${BOX}" rx="4"/>${accent}<text x="${X + W / 2}" y="${y + BOX / 2 + 4.5}" font-size="13" text-anchor="middle">${box.text}</text><text class="faint" x="${X + W + 12}" y="${y + BOX / 2 + 4}" font-size="11.5" font-style="italic">${box.side}</text>`;
  });
  const borders = boxes.slice(1).map((box, i) => {
    const y = 6 + i * (BOX + GAP) + BOX;
    const lines = crossings(kind, boxes[i].text, box.text, paths);
    const text = lines
      .map((line, n) => {
        const at = y + GAP / 2 + 4 + (n - (lines.length - 1) / 2) * 13.5;
        return `<text x="${X + W / 2 + 22}" y="${at.toFixed(1)}" font-size="11.5">${line}</text>`;
      })
      .join("");
    return `${arrow(X + W / 2 - 8, y + 4, y + GAP - 4)}${arrow(X + W / 2 + 8, y + GAP - 4, y + 4)}${text}`;
  });
  return `<svg viewBox="0 0 340 ${height}" role="img" aria-label="${kind}">${parts.join("")}${borders.join("")}</svg>`;
}

/** What was seen to cross one border, a line for each model where they differ. */
function crossings(kind: string, above: string, below: string, paths: readonly Path[]): string[] {
  if (above === "Application") return ["4 KiB, one request"];
  const name = (path: Path) => (paths.length > 1 ? `${path.model}: ` : "");
  if (below === "Host file") return same(paths.map((path) => `${name(path)}${number(stored(path))} bytes, one copy`));
  if (below === "IDE controller") {
    const [path] = paths;
    return [`${path.registers} register accesses`, `${path.interrupts} interrupt, no exit`];
  }
  if (below === "Hypervisor") {
    return paths.map(
      (path) => `${name(path)}${number(path.exits)} ${path.exits === 1 ? "exit" : "exits"}, ${path.interrupts} irq`,
    );
  }
  if (kind === "para") return paths.map((path) => `${name(path)}${number(path.shared)} bytes of ring`);
  return paths.map((path) => {
    const words = path.copied - stored(path);
    return `${name(path)}${words > 0 ? `${figure(words)} bytes by word` : `${path.shared} bytes of PRD table`}`;
  });
}

function stored(path: Path): number {
  return path.steps.reduce((sum, step) => sum + (step.layer === "host file" ? (step.bytes ?? 0) : 0), 0);
}

/** One line when all say the same. */
function same(lines: string[]): string[] {
  const bare = lines.map((line) => line.replace(/^[^:]+: /, ""));
  return new Set(bare).size === 1 ? [bare[0]] : lines;
}

function arrow(x: number, from: number, to: number): string {
  const back = to > from ? -5 : 5;
  return `<path class="wire" d="M${x} ${from}V${to}"/><path class="head" d="M${x - 3.5} ${to + back}h7L${x} ${to}z"/>`;
}
