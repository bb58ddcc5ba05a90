/** How much of a heavy suite is done: a little in CI, all of it in `npm run test:nightly`. */
export const tier = <T>(ci: T, nightly: T): T => (process.env.PARAVANE_NIGHTLY ? nightly : ci);
