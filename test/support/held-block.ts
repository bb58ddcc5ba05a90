import type { Block } from "../../src/core/block.ts";

/** The disk, each batch of it only when it is let go; what goes wrong then is what the batch ends with, as of a store over a network. */
export function held(disk: Block): { block: Block; release: () => Promise<void> } {
  const waiting: (() => void)[] = [];
  const block: Block = {
    ...{ size: disk.size, sectorSize: disk.sectorSize, readOnly: false, copied: 0, close() {} },
    submit: async (batch) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      await disk.submit(batch);
    },
  };
  const release = async () => {
    waiting.shift()?.();
    for (let tick = 0; tick < 8; tick++) await null;
  };
  return { block, release };
}
