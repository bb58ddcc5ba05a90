import { createDisk } from "../src/host/block/open.ts";
import { MemoryStore } from "../src/host/store/memory.ts";
import { type Measurement, runLab } from "../src/lab/index.ts";

const SECONDS = 0.4;
const QUICK_SECONDS = 0.1;

/**
 * The lab's models over one dynamic VHD in memory: what each costs, with no disk to wait for. The lab verifies every byte.
 * @throws Error when one was wrong
 */
export async function modelBenches(quick: boolean): Promise<Measurement[]> {
  const disk = await createDisk(new MemoryStore(), { format: "vhd", size: 128 << 20 });
  const { models, verified } = await runLab(disk, {
    workloads: ["random"],
    blockSizes: [4096, 65536],
    queueDepths: [1, 32],
    seconds: quick ? QUICK_SECONDS : SECONDS,
  });
  await disk.close();
  if (!verified) throw new Error("the lab read wrong data");
  return models;
}
