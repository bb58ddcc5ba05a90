import type { AtaConfigurable } from "../../../../../assembly/spec/ata.ts";
import type { BlockRequest, Status } from "../../../../core/block.ts";
import type { DevicePort } from "../port.ts";
import type { DriveConfig } from "./options.ts";
import type { DiskState } from "./state.ts";

/** A disk as the commands that it carries out itself see it. */
export interface AtaDisk {
  readonly port: DevicePort;
  readonly config: DriveConfig;
  readonly state: DiskState;
  /** Media access under the drive's error policies; `done` gets the status, and the sector that failed or -1. */
  submit(batch: readonly BlockRequest[], done: (status: Status, lba: number) => void): void;
  /** Puts state that the core decides by (sectors, what is refused) into the drive's fields. */
  publish(): void;
}

/** How a command ends: well; aborted; well once everything written is durable; or as it has told the port already. */
export type Verdict = boolean | "flush" | "answered";

/** Carries a command one step further (IdeDevice.execute). */
export type AtaCommandHandler = (disk: AtaDisk) => Verdict;

/** Has DEVICE CONFIGURATION SET left that feature to the drive? */
export function offers(disk: AtaDisk, feature: AtaConfigurable): boolean {
  return (disk.state.configuration.features & feature) !== 0;
}

/** Makes the bytes of `block` sum to zero, by its last (SMART READ LOG and others). */
export function addChecksum(block: Uint8Array): void {
  block[511] = -block.subarray(0, 511).reduce((sum, byte) => sum + byte, 0);
}

/** Answers with `bytes` by PIO, and ends the command. */
export function reply(disk: AtaDisk, bytes: Uint8Array): Verdict {
  disk.port.buffer.set(bytes);
  disk.port.dataInLast(bytes.length);
  return "answered";
}

/**
 * Asks for one block of 512 bytes and answers it at the second step; undefined at the first. A command that takes a block
 * says before whether it will (`ready`), so that the guest learns of a refusal before it has sent anything.
 */
export function takeBlock(disk: AtaDisk, ready: boolean): Uint8Array | Verdict {
  if (disk.port.step > 0) return disk.port.buffer.slice(0, 512);
  if (!ready) return false;
  disk.port.dataOut(512, true);
  return "answered";
}
