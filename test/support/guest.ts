import { KIT_TOOLS } from "../guest/kit/kit.ts";
import { found, peerTest } from "./peers.ts";

/** A test that boots a guest: its tools are peers. */
export function guestTest(name: string, body: () => Promise<void>, timeout = 600_000): void {
  const [peer, installed] = KIT_TOOLS.find(([tool]) => !found(tool)) ?? KIT_TOOLS[0];
  peerTest(peer, installed, name, body, timeout);
}
