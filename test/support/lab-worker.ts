import { parentPort, workerData } from "node:worker_threads";
import { createDisk } from "../../src/host/block/open.ts";
import { MemoryStore } from "../../src/host/store/memory.ts";
import { runLab } from "../../src/lab/run.ts";
import { useCoreModule } from "../../src/wasm/core.ts";

// A short lab run over the core it is given; answers what the lab found. A worker, because a broken core may never end.

async function verdict(): Promise<string> {
  try {
    const disk = await createDisk(new MemoryStore(), { format: "vhd", size: 4 << 20 });
    const options = { workloads: ["verify"], queueDepths: [1, 8], seconds: 0.01, patience: 300 } as const;
    const { verified, faults } = await runLab(disk, options);
    return verified ? "verified" : faults[0].what;
  } catch (thrown) {
    return String(thrown);
  }
}

useCoreModule(workerData);
parentPort!.postMessage(await verdict());
