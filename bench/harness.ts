/** What one contestant took for one round. */
export interface Measured {
  nanoseconds: number;
  /** Of everything it answered: contestants whose sums differ did not do the same work. */
  checksum: number;
}

/** One way of doing the work. */
export interface Contestant {
  name: string;
  measure(operations: number): Measured;
}

export interface Result {
  name: string;
  /** Median over the rounds. */
  nsPerOperation: number;
  /** Median of the per-round ratios against the first contestant: below 1 is faster than it. */
  ratio: number;
}

const ROUNDS = 15;
const WARM_UP_NANOSECONDS = 150e6;

/** A contestant in this process; `run(n)` does the work n times and returns a checksum. */
export function inProcess(name: string, run: (operations: number) => number): Contestant {
  return {
    name,
    measure(operations) {
      const start = process.hrtime.bigint();
      const checksum = run(operations);
      return { nanoseconds: Number(process.hrtime.bigint() - start), checksum };
    },
  };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Times contestants in turn, round by round, so that a machine whose speed drifts slows all of them alike. The first is
 * the yardstick.
 * @throws Error when their checksums disagree
 */
export function compare(contestants: readonly Contestant[], operations: number, rounds = ROUNDS): Result[] {
  const times: number[][] = contestants.map(() => []);
  for (const contestant of contestants) {
    let warm = 0;
    // Compilers that work behind our back (V8's tiers) get time as well as calls.
    while (warm < WARM_UP_NANOSECONDS) warm += contestant.measure(operations).nanoseconds + 1e6;
  }
  for (let round = 0; round < rounds; round++) {
    const answers = contestants.map((contestant) => contestant.measure(operations));
    answers.forEach(({ nanoseconds, checksum }, i) => {
      if (checksum !== answers[0].checksum) {
        throw new Error(
          `${contestants[i].name} answers ${checksum}, ${contestants[0].name} answers ${answers[0].checksum}`,
        );
      }
      times[i].push(nanoseconds / operations);
    });
  }
  return contestants.map((contestant, i) => ({
    name: contestant.name,
    nsPerOperation: median(times[i]),
    ratio: median(times[i].map((time, round) => time / times[0][round])),
  }));
}
