import { oneLine, printable } from "./printable.ts";

/** Stable codes: scripts and devices switch on these, never on a message. */
export type ErrorCode =
  | "ABORTED" // the caller's AbortSignal fired
  | "BUSY" // somebody else holds the resource
  | "CLOSED" // used after close()
  | "CORRUPT" // a structure on disk contradicts its specification
  | "CRC" // damaged on the way between device and host; the next try may go well
  | "DENIED" // the caller's domain has no right to it
  | "EXISTS" // would overwrite something
  | "INVALID" // an argument or option that can never work
  | "IO" // the host failed the operation for a reason of its own
  | "MEDIA" // the bytes could not be read or written (a bad sector)
  | "NOT_FOUND"
  | "NO_SPACE" // the host's disk, quota or the format's limit is full
  | "OUT_OF_RANGE" // past the end of the disk or of guest memory
  | "PROTOCOL" // the peer broke the ring, bus or wire protocol
  | "READ_ONLY"
  | "UNSUPPORTED";

/** Where it happened. Every field is optional; offsets and lengths are bytes. */
export interface ErrorContext {
  file?: string;
  offset?: number;
  length?: number;
  /** The on-disk or in-memory structure at fault, in the words of its specification. */
  structure?: string;
  command?: string;
  [detail: string]: unknown;
}

/**
 * The one error type, whose texts are one line each, whatever an image has put into them. `message` says what was wrong and
 * where; `hint`, when there is one, says what to do.
 */
export class ParavaneError extends Error {
  override readonly name = "ParavaneError";
  readonly code: ErrorCode;
  readonly context: ErrorContext;
  readonly hint: string | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    context: ErrorContext = {},
    options: { cause?: unknown; hint?: string } = {},
  ) {
    super(oneLine(message), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.context = context;
    this.hint = options.hint && oneLine(options.hint);
  }

  /** One line for a person: message, place, remedy. */
  describe(): string {
    const { file, offset } = this.context;
    const at = offset === undefined ? "" : ` at byte ${offset}`;
    const where = file === undefined ? at && ` (${at.trim()})` : ` (${file}${at})`;
    return `${this.message}${printable(where)}${this.hint ? `. ${this.hint}` : ""}`;
  }

  toJSON(): Record<string, unknown> {
    return { code: this.code, message: this.message, context: this.context, hint: this.hint };
  }
}

/** Any thrown value as a ParavaneError; those already typed pass through untouched. */
export function asParavaneError(thrown: unknown, code: ErrorCode = "IO", context: ErrorContext = {}): ParavaneError {
  if (thrown instanceof ParavaneError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new ParavaneError(code, message, context, { cause: thrown });
}
