/**
 * One body for the synchronous and the asynchronous case.
 *
 * A flow is a generator that yields only what it must wait for. Over a synchronous store it never yields, so `run`
 * returns the plain result: no promise, no tick, no second copy of the code. Over an asynchronous one `run` returns a
 * promise. In a hot loop write `const pending = store.readv(…); if (pending) yield pending;`.
 */
export type Flow<T = void> = Generator<Promise<unknown>, T, unknown>;

/** A value now, or a promise of it. */
export type Later<T> = T | Promise<T>;

/** Runs a flow to its end; synchronous when nothing had to be waited for. Throws or rejects with what the flow throws. */
export function run<T>(flow: Flow<T>): Later<T> {
  const step = flow.next();
  return step.done ? step.value : resume(flow, step.value);
}

async function resume<T>(flow: Flow<T>, first: Promise<unknown>): Promise<T> {
  let pending = first;
  for (;;) {
    let outcome: unknown;
    let failed = false;
    try {
      outcome = await pending;
    } catch (thrown) {
      outcome = thrown;
      failed = true;
    }
    const step = failed ? flow.throw(outcome) : flow.next(outcome);
    if (step.done) return step.value;
    pending = step.value;
  }
}

/** Inside a flow: `const value = yield* wait(something)`, waiting only if it is a promise. */
export function* wait<T>(value: Later<T>): Flow<T> {
  return value instanceof Promise ? ((yield value) as T) : value;
}
