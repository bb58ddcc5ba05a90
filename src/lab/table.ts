/** How text is made to stand out; the identity where colours are not wanted. */
export interface Style {
  strong(text: string): string;
  faint(text: string): string;
  good(text: string): string;
  bad(text: string): string;
}

const same = (text: string) => text;
export const PLAIN: Style = { strong: same, faint: same, good: same, bad: same };

export interface Column<T> {
  title: string;
  cell: (row: T) => string;
  /** Numbers stand to the right. */
  right?: boolean;
  style?: (text: string, row: T) => string;
}

/** Rows under a heading, columns as wide as they need to be. */
export function table<T>(columns: readonly Column<T>[], rows: readonly T[], style: Style = PLAIN): string[] {
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...cells.map((row) => row[i].length)));
  const pad = (text: string, i: number) => (columns[i].right ? text.padStart(widths[i]) : text.padEnd(widths[i]));
  const line = (parts: string[]) => `  ${parts.join("  ")}`.trimEnd();
  return [
    line(columns.map(({ title }, i) => style.faint(pad(title, i)))),
    ...cells.map((row, r) => line(row.map((text, i) => (columns[i].style ?? same)(pad(text, i), rows[r])))),
  ];
}

/** Thousands parted, so many digits after the point. */
export function number(value: number, digits = 0): string {
  if (!Number.isFinite(value)) return "–";
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Enough digits to tell values apart: 2,067 · 26.0 · 1.00 · 0.031. */
export function figure(value: number): string {
  if (value === 0) return "0";
  if (value >= 1000) return number(value);
  return number(value, value >= 100 ? 0 : value >= 10 ? 1 : value >= 0.1 ? 2 : 3);
}

/** 512 B, 4 KiB, 256 MiB. */
export function bytes(value: number): string {
  for (const [unit, size] of [
    ["TiB", 2 ** 40],
    ["GiB", 2 ** 30],
    ["MiB", 2 ** 20],
    ["KiB", 2 ** 10],
  ] as const) {
    if (value >= size) return `${number(value / size, value % size === 0 ? 0 : 1)} ${unit}`;
  }
  return `${value} B`;
}
