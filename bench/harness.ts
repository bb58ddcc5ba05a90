/** What one contestant took for one round. */
interface Measured {
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
  /** Of the fastest round: what makes a round slower is somebody else on the machine. */
  nsPerOperation: number;
  /** That, over the first contestant's: below 1 is faster than it. */
  ratio: number;
}

/** Compilers that work behind our back (V8's tiers) get time as well as calls. */
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

/**
 * Times contestants in turn, round by round, so that a machine whose speed drifts slows all of them alike. The first is
 * the yardstick.
 * @throws Error when their checksums disagree
 */
export function compare(contestants: readonly Contestant[], operations: number, rounds: number): Result[] {
  for (const contestant of contestants) {
    for (let warm = 0; warm < WARM_UP_NANOSECONDS; ) warm += contestant.measure(operations).nanoseconds + 1e6;
  }
  const best = contestants.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < rounds; round++) {
    const answers = contestants.map((contestant) => contestant.measure(operations));
    answers.forEach(({ nanoseconds, checksum }, i) => {
      if (checksum !== answers[0].checksum) {
        const { name } = contestants[i];
        throw new Error(`${name} answers ${checksum}, ${contestants[0].name} answers ${answers[0].checksum}`);
      }
      best[i] = Math.min(best[i], nanoseconds / operations);
    });
  }
  return contestants.map(({ name }, i) => ({ name, nsPerOperation: best[i], ratio: best[i] / best[0] }));
}
