import { KIT_TOOLS } from "../guest/kit/kit.ts";
import { found, peerTest } from "./peers.ts";

/** A test that boots a guest: the kit's tools are peers, and `more`, by the package that each comes in. */
export function guestTest(
  name: string,
  body: () => Promise<void>,
  timeout = 600_000,
  more: readonly (readonly [tool: string, installed: string])[] = [],
): void {
  const [peer, installed] = [...KIT_TOOLS, ...more].find(([tool]) => !found(tool)) ?? KIT_TOOLS[0];
  peerTest(peer, installed, name, body, timeout);
}
