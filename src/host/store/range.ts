// Ranges of one file over HTTP (RFC 9110, section 14), each from the same version of it or refused.
import { ParavaneError } from "../../core/error.ts";

export interface RangeOptions {
  /** Instead of the runtime's own. */
  fetch?: typeof fetch;
  /** Sent with every request. */
  headers?: Record<string, string>;
  /** Ends everything: what is under way, and what is asked for later, fails with ABORTED. */
  signal?: AbortSignal;
  /** How often a failed request is made again. Default 5. */
  retries?: number;
  /** Milliseconds before the first time; then twice as long each time. Default 200. */
  retryDelay?: number;
  /** Milliseconds without a byte after which a request has failed. Default 30,000. */
  timeout?: number;
}

/** What tells one version of the file from another. */
interface Version {
  size: number;
  etag: string | null;
  modified: string | null;
}

/** May go better next time. */
class Transient extends Error {
  readonly after: number;
  constructor(message: string, after = 0, cause?: unknown) {
    super(message, { cause });
    this.after = after;
  }
}

/** Longest wait between two attempts, whatever the server asks for, in milliseconds. */
const MAX_DELAY = 30_000;

export class RangeClient {
  readonly #url: string;
  readonly #options: RangeOptions;
  readonly #stop = new AbortController();
  readonly #plain: boolean;
  #version: Version | undefined;
  #broken: ParavaneError | undefined;

  constructor(url: string, options: RangeOptions) {
    this.#url = url;
    this.#options = options;
    const { signal } = options;
    if (signal?.aborted) this.#stop.abort();
    signal?.addEventListener("abort", () => this.#stop.abort(), { once: true });
    // Conditions make a browser ask another origin for leave; its answers tell the version all the same.
    const here = (globalThis as { location?: { href: string; origin: string } }).location;
    this.#plain = here?.origin !== undefined && new URL(url, here.href).origin !== here.origin;
  }

  /**
   * Asks for the first bytes, which tells the size, whether ranges work, and the version to stay with.
   * @throws ParavaneError UNSUPPORTED (no ranges, or compressed, or nothing tells versions apart), NOT_FOUND, DENIED, IO
   */
  async open(length: number): Promise<{ size: number; head: Uint8Array }> {
    const head = await this.#retry(() => this.#get(0, length, true));
    return { size: this.#version!.size, head };
  }

  /** Exactly these bytes, inside the file. @throws ParavaneError IO, PROTOCOL, ABORTED, CLOSED */
  get(position: number, length: number): Promise<Uint8Array> {
    return this.#retry(() => this.#get(position, length, false));
  }

  close(): void {
    this.#stop.abort();
  }

  async #retry<T>(attempt: () => Promise<T>): Promise<T> {
    const { retries = 5, retryDelay = 200 } = this.#options;
    for (let tries = 0; ; tries++) {
      this.check();
      try {
        return await attempt();
      } catch (thrown) {
        this.check();
        if (!(thrown instanceof Transient)) throw thrown;
        if (tries === retries) {
          const message = `${this.#url}: ${thrown.message}, ${tries + 1} times`;
          throw new ParavaneError("IO", message, { file: this.#url }, { cause: thrown.cause ?? thrown });
        }
        // Not all who were refused together come again together.
        const delay = retryDelay * 2 ** tries * (0.75 + Math.random() / 2);
        await this.#sleep(Math.min(MAX_DELAY, Math.max(delay, thrown.after)));
      }
    }
  }

  /** @throws ParavaneError ABORTED, CLOSED, or that the file has changed */
  check(): void {
    if (this.#broken) throw this.#broken;
    if (!this.#stop.signal.aborted) return;
    const { signal } = this.#options;
    const context = { file: this.#url };
    if (signal?.aborted) throw new ParavaneError("ABORTED", "the caller gave up", context, { cause: signal.reason });
    throw new ParavaneError("CLOSED", `${this.#url} is closed`, context);
  }

  #sleep(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const { signal } = this.#stop;
      const over = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", over);
        resolve();
      };
      const timer = setTimeout(over, milliseconds);
      signal.addEventListener("abort", over);
    });
  }

  /** One attempt. */
  async #get(position: number, length: number, first: boolean): Promise<Uint8Array> {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    this.#stop.signal.addEventListener("abort", stop);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const rearm = () => {
      clearTimeout(timer);
      timer = setTimeout(stop, this.#options.timeout ?? 30_000);
    };
    rearm();
    let done = false;
    try {
      const ask = this.#options.fetch ?? fetch;
      const range = `bytes=${position}-${position + length - 1}`;
      const headers = { ...this.#options.headers, ...this.#conditions(), range };
      const response = await ask(this.#url, { headers, signal: attempt.signal, cache: "no-store" });
      rearm();
      const expected = await this.#judge(response, position, length, first);
      const bytes = expected === 0 ? new Uint8Array(0) : await body(response, expected, rearm);
      done = true;
      return bytes;
    } catch (thrown) {
      if (thrown instanceof ParavaneError || thrown instanceof Transient) throw thrown;
      // What `fetch` throws says little; its cause, in Node, more.
      const { message, cause } = thrown as Error;
      const detail = cause instanceof Error ? cause.message : message;
      throw new Transient(attempt.signal.aborted ? "no answer in time" : detail, 0, thrown);
    } finally {
      clearTimeout(timer);
      this.#stop.signal.removeEventListener("abort", stop);
      if (!done) attempt.abort();
    }
  }

  #conditions(): Record<string, string> {
    const { etag, modified } = this.#version ?? { etag: null, modified: null };
    if (this.#plain) return {};
    // A weak tag never matches strongly, as If-Match does.
    if (etag && !etag.startsWith("W/")) return { "if-match": etag };
    return modified ? { "if-unmodified-since": modified } : {};
  }

  /** How many bytes the body must have. @throws Transient, ParavaneError */
  async #judge(response: Response, position: number, length: number, first: boolean): Promise<number> {
    const { status, headers } = response;
    if (status === 408 || status === 425 || status === 429 || status >= 500) {
      throw new Transient(`the server answered ${status}`, 1000 * (Number(headers.get("retry-after")) || 0));
    }
    if (status === 412) throw this.#changed("answers that its version is another");
    const total = /^bytes (?:(\d+)-(\d+)|\*)\/(\d+|\*)$/i.exec(headers.get("content-range") ?? "");
    if (status === 416) {
      if (!first) throw this.#changed("has become shorter");
      if (total?.[3] !== "0") throw this.#refusal("PROTOCOL", "the server refuses the first bytes");
      this.#version = { size: 0, ...versionOf(headers) };
      return 0;
    }
    if (status === 404 || status === 410) throw this.#refusal("NOT_FOUND", `the server answered ${status}`);
    if (status === 401 || status === 403 || status === 407) {
      throw this.#refusal("DENIED", `the server answered ${status}`, "Give what it asks for as `headers`");
    }
    const encoding = headers.get("content-encoding") ?? "identity";
    if (encoding !== "identity" && encoding !== "") {
      const hint = "Serve disk images as they are, without compressing them on the way";
      throw this.#refusal(
        "UNSUPPORTED",
        `the server compresses the file (${encoding}): places in it mean nothing`,
        hint,
      );
    }
    this.#sameVersion(headers);
    if (status === 200) {
      const hint = "Serve it from a server that supports range requests";
      throw this.#refusal("UNSUPPORTED", "the server ignores ranges, and sends the whole file", hint);
    }
    if (status !== 206) throw this.#refusal("IO", `the server answered ${status}`);
    if (first)
      this.#version = {
        size: total && total[3] !== "*" ? Number(total[3]) : await this.#head(),
        ...versionOf(headers),
      };
    const { size, etag, modified } = this.#version!;
    if (first && etag === null && modified === null) {
      const hint = "Have the server send ETag or Last-Modified (to pages of other origins: expose them)";
      throw this.#refusal("UNSUPPORTED", "nothing tells whether the file changes while it is read", hint);
    }
    if (total && total[3] !== "*" && Number(total[3]) !== size)
      throw this.#changed(`has ${total[3]} bytes now, not ${size}`);
    const end = Math.min(position + length, size);
    if (total && (Number(total[1]) !== position || Number(total[2]) !== end - 1)) {
      const [asked, got] = [`${position}-${end - 1}`, `${total[1]}-${total[2]}`];
      throw this.#refusal("PROTOCOL", `the server answered bytes ${got} for ${asked}`);
    }
    return end - position;
  }

  /** The size, where the answer to a range does not say it, or a page is not let see it. */
  async #head(): Promise<number> {
    const { headers, signal } = { headers: this.#options.headers ?? {}, signal: this.#stop.signal };
    const response = await (this.#options.fetch ?? fetch)(this.#url, {
      method: "HEAD",
      headers,
      signal,
      cache: "no-store",
    });
    const length = response.headers.get("content-length");
    const size = Number(length);
    if (response.ok && length !== null && Number.isSafeInteger(size) && size > 0) return size;
    const hint = "Have the server send Content-Range (to pages of other origins: expose it)";
    throw this.#refusal("UNSUPPORTED", "the server does not say how large the file is", hint);
  }

  #sameVersion(headers: Headers): void {
    if (!this.#version) return;
    const { etag, modified } = versionOf(headers);
    if (etag !== this.#version.etag) throw this.#changed("has another ETag");
    if (modified !== this.#version.modified) throw this.#changed("was modified");
  }

  /** What was read before and what would be read now are not one disk: nothing more is read. */
  #changed(what: string): ParavaneError {
    const hint = "Open it again";
    this.#broken = new ParavaneError(
      "IO",
      `${this.#url} ${what}: it changed since it was opened`,
      { file: this.#url },
      { hint },
    );
    return this.#broken;
  }

  #refusal(
    code: "NOT_FOUND" | "DENIED" | "UNSUPPORTED" | "PROTOCOL" | "IO",
    what: string,
    hint?: string,
  ): ParavaneError {
    return new ParavaneError(code, `${this.#url}: ${what}`, { file: this.#url }, { hint });
  }
}

function versionOf(headers: Headers): Omit<Version, "size"> {
  return { etag: headers.get("etag"), modified: headers.get("last-modified") };
}

/** Never more memory than was asked for, whatever the server sends. @throws Transient when it is cut short */
async function body(response: Response, length: number, alive: () => void): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  const reader = response.body!.getReader();
  let at = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    alive();
    if (at + value.length > length) {
      throw new ParavaneError("PROTOCOL", `${response.url} sends more than the ${length} bytes it announced`, {
        file: response.url,
      });
    }
    bytes.set(value, at);
    at += value.length;
  }
  if (at < length) throw new Transient(`the answer ended after ${at} of ${length} bytes`);
  return bytes;
}
