import { createHash } from "node:crypto";
import type { Block } from "../../src/core/block.ts";
import { type Flow, run } from "../../src/core/flow.ts";
import type { CheckReport } from "../../src/core/format.ts";
import type { Store } from "../../src/core/store.ts";
import { readBytes } from "../../src/host/block/bytes.ts";
import { checkQcow2 } from "../../src/host/format/qcow2/check.ts";

const MiB = 2 ** 20;

/** The start of the SHA-256 of all that the guest sees. */
export async function hash(block: Block): Promise<string> {
  const sha = createHash("sha256");
  for (let at = 0; at < block.size; at += MiB) sha.update(await readBytes(block, at, Math.min(MiB, block.size - at)));
  return sha.digest("hex").slice(0, 16);
}

/** The result of a flow over synchronous stores. */
export function now<T>(flow: Flow<T>): T {
  const result = run(flow);
  if (result instanceof Promise) throw new Error("the flow had to wait");
  return result;
}

export const check = (store: Store): CheckReport => now(checkQcow2(store));
