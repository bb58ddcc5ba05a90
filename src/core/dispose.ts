// The published types name `Symbol.asyncDispose`: whoever compiles against them needs this, whatever their `lib`.
/// <reference lib="esnext.disposable" preserve="true" />

/** Something with a `close()` that `await using` may call. */
export interface AsyncCloseable {
  close(): void | Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Gives a class `Symbol.asyncDispose`, calling `close()`, where the runtime has that symbol. */
export function disposable(prototype: { close(): void | Promise<void> }): void {
  if (typeof Symbol.asyncDispose !== "symbol") return;
  Object.defineProperty(prototype, Symbol.asyncDispose, {
    configurable: true,
    async value(this: { close(): void | Promise<void> }) {
      await this.close();
    },
  });
}
