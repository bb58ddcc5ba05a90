/** One way of doing the work; `run(n)` does it n times and returns a checksum, so that nothing can be optimised away. */
export interface Contestant {
  name: string;
  run(operations: number): number;
}

export interface Result {
  name: string;
  /** Median over the rounds. */
  nsPerOperation: number;
  /** Median of the per-round ratios against the first contestant: below 1 is faster than it. */
  ratio: number;
}

const ROUNDS = 15;

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Times contestants in turn, round by round, so that a machine whose speed drifts slows all of them alike. The first is
 * the yardstick. Their checksums must agree: contestants that disagree did not do the same work.
 * @throws Error when they disagree
 */
export function compare(contestants: Contestant[], operations: number): Result[] {
  const sums = contestants.map((contestant) => contestant.run(operations)); // also the warm-up
  for (const contestant of contestants) contestant.run(operations);
  const wrong = sums.findIndex((sum) => sum !== sums[0]);
  if (wrong >= 0) {
    throw new Error(`${contestants[wrong].name} answers ${sums[wrong]}, ${contestants[0].name} answers ${sums[0]}`);
  }
  const times: number[][] = contestants.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    contestants.forEach((contestant, i) => {
      const start = process.hrtime.bigint();
      contestant.run(operations);
      times[i].push(Number(process.hrtime.bigint() - start) / operations);
    });
  }
  return contestants.map((contestant, i) => ({
    name: contestant.name,
    nsPerOperation: median(times[i]),
    ratio: median(times[i].map((time, round) => time / times[0][round])),
  }));
}
