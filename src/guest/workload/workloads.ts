import type { Burst } from "./burst.ts";
import type { Random } from "./random.ts";

/** Decides what an application asks for next: plans every request of a burst. */
export type Workload = (burst: Burst) => void;

/** Reads the region from its start to its end, over and over. */
function sequential(): Workload {
  let next = 0;
  return (burst) => {
    for (let i = 0; i < burst.depth; i++) next = (burst.plan(i, false, next) + 1) % burst.blocks;
  };
}

/** Reads blocks anywhere. */
function random(dice: Random): Workload {
  return (burst) => {
    for (let i = 0; i < burst.depth; i++) burst.plan(i, false, dice.below(burst.blocks));
  };
}

/** Seven reads to three writes, anywhere: what a file server's disk sees. */
function mixed(dice: Random): Workload {
  return (burst) => {
    for (let i = 0; i < burst.depth; i++) burst.plan(i, dice.below(10) >= 7, dice.below(burst.blocks));
  };
}

/** Writes a burst of blocks anywhere, then reads the same ones back, last first. */
function verify(dice: Random): Workload {
  let written: number[] = [];
  return (burst) => {
    const back = written.reverse();
    written = [];
    for (let i = 0; i < burst.depth; i++) {
      if (back.length > 0) burst.plan(i, false, back[i]);
      else written.push(burst.plan(i, true, dice.below(burst.blocks)));
    }
  };
}

export const WORKLOADS = { sequential, random, mixed, verify } satisfies Record<string, (dice: Random) => Workload>;
export type WorkloadName = keyof typeof WORKLOADS;
