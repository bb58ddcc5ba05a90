import { type BlockRequest, Status } from "../../core/block.ts";
import { asParavaneError, type ErrorCode } from "../../core/error.ts";

/** How a request ends when the work for it threw that code; what is not listed is `Io`. */
const STATUS: Partial<Record<ErrorCode, Status>> = {
  NO_SPACE: Status.NoSpace,
  READ_ONLY: Status.ReadOnly,
  UNSUPPORTED: Status.Unsupported,
  OUT_OF_RANGE: Status.OutOfRange,
  INVALID: Status.Unsupported,
  MEDIA: Status.Media,
  CORRUPT: Status.Media,
  CRC: Status.Crc,
};
/** The reverse, for a failed request whose block gave no error. */
const CODE: Partial<Record<Status, ErrorCode>> = {
  [Status.NoSpace]: "NO_SPACE",
  [Status.ReadOnly]: "READ_ONLY",
  [Status.Unsupported]: "UNSUPPORTED",
  [Status.OutOfRange]: "OUT_OF_RANGE",
  [Status.Media]: "MEDIA",
  [Status.Crc]: "CRC",
};

/** Ends a request with the cause; the first cause stays. */
export function fail(request: BlockRequest, thrown: unknown): void {
  if (request.status > Status.Pending) return;
  request.error = asParavaneError(thrown);
  request.status = STATUS[request.error.code] ?? Status.Io;
}

/** The same for work on the store, where "past the end" means that the host's file broke and not the guest's request. */
export function failTransfer(request: BlockRequest, thrown: unknown): void {
  const error = asParavaneError(thrown);
  const first = request.status === Status.Pending;
  fail(request, error);
  if (first && request.status === Status.OutOfRange) request.status = Status.Io;
}

/** The error code of a final status. */
export function codeOf(status: Status): ErrorCode {
  return CODE[status] ?? "IO";
}

/** Ends a request that nothing went wrong with. */
export function finish(request: BlockRequest): void {
  if (request.status === Status.Pending) request.status = Status.Ok;
}
