import { type Block, type BlockRequest, Op, Status } from "../../core/block.ts";
import { ParavaneError } from "../../core/error.ts";
import { fail, finish } from "./status.ts";

/** Stands in for a parent that was left out: reading it fails. */
export class Absent implements Block {
  readonly size = Number.MAX_SAFE_INTEGER;
  readonly sectorSize = 512;
  readonly readOnly = true;
  readonly copied = 0;
  readonly #error: ParavaneError;

  /** @param paths where the parent may be */
  constructor(image: string, paths: readonly string[]) {
    const context = { file: image, structure: "parent locator", paths };
    this.#error = new ParavaneError("NOT_FOUND", `the parent, ${paths[0] ?? "(unnamed)"}, was left out`, context);
  }

  submit(requests: readonly BlockRequest[]): void {
    for (const request of requests) {
      request.status = Status.Pending;
      if (request.op === Op.Flush) finish(request);
      else fail(request, this.#error);
    }
  }
  close(): void {}
}

/** In the place of a parent: no bytes, so that what the image does not hold reads as zeros. */
export class Nothing implements Block {
  readonly size = 0;
  readonly sectorSize = 512;
  readonly readOnly = true;
  readonly copied = 0;

  submit(requests: readonly BlockRequest[]): void {
    for (const request of requests) {
      request.status = Status.Pending;
      if (request.length === 0) finish(request);
      else fail(request, new ParavaneError("OUT_OF_RANGE", "there is no parent", { offset: request.offset }));
    }
  }
  close(): void {}
}
