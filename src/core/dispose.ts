// The published types name `Symbol.asyncDispose`: whoever compiles against them needs this, whatever their `lib`.
/// <reference lib="esnext.disposable" preserve="true" />

/** Something with a `close()` that `await using` may call. */
export interface AsyncCloseable {
  close(): void | Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Gives a prototype or an object `Symbol.asyncDispose`, calling `close()`, where the runtime has that symbol. */
export function disposable<T extends { close(): void | Promise<void> }>(of: T): T & AsyncCloseable {
  if (typeof Symbol.asyncDispose === "symbol") define(of);
  return of as T & AsyncCloseable;
}

function define(of: object): void {
  Object.defineProperty(of, Symbol.asyncDispose, {
    configurable: true,
    async value(this: { close(): void | Promise<void> }) {
      await this.close();
    },
  });
}
