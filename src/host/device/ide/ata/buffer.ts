import { AtaCommand } from "../../../../../assembly/spec/ata.ts";
import { type AtaDisk, reply, takeBlock, type Verdict } from "./command.ts";

/** §8.24, and ACS-2 for the DMA form: what WRITE BUFFER has left. */
export function readBuffer(disk: AtaDisk): Verdict {
  if (disk.port.command === AtaCommand.ReadBuffer) return reply(disk, disk.state.buffer);
  disk.port.dma(512);
  return "answered";
}

/** §8.54, and ACS-2 for the DMA form. */
export function writeBuffer(disk: AtaDisk): Verdict {
  if (disk.port.command !== AtaCommand.WriteBuffer) {
    disk.port.dma(512);
    return "answered";
  }
  const block = takeBlock(disk, true);
  if (!(block instanceof Uint8Array)) return block;
  disk.state.buffer.set(block);
  return true;
}
