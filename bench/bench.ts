import type { Contestant } from "./harness.ts";

/** One line of the tables: the same work in WebAssembly (first), TypeScript and C. */
export interface Bench {
  name: string;
  /** What the figures are per. */
  unit: string;
  /** Operations a round, enough for some 10 ms. */
  operations: number;
  contestants(): Contestant[];
}
