import { HostStatus, PvscsiFlag } from "../../../../assembly/spec/pvscsi.ts";
import { PvscsiAnswer, PvscsiContext, PvscsiDone } from "../../../../assembly/spec/pvscsi-context.ts";
import { ScsiStatus } from "../../../../assembly/spec/scsi.ts";
import { type BlockRequest, Op } from "../../../core/block.ts";
import type { Later } from "../../../core/flow.ts";
import type { GuestMemory } from "../../../core/machine.ts";
import type { SegmentList } from "../../../core/segments.ts";
import type { Work } from "../scsi/command.ts";
import type { ScsiDisk } from "../scsi/disk.ts";
import { carryOut, conclude } from "../scsi/execute.ts";
import type { Outcome } from "../scsi/outcome.ts";
import { senseBytes } from "../scsi/sense.ts";
import { RingContext } from "./rings.ts";
import { newTask, type Task, takeTask } from "./task.ts";

const NOTHING: Outcome = { sense: null, bytes: 0, overrun: false };

/** What goes to one disk in one batch. */
interface Batch {
  disk: ScsiDisk;
  tasks: Task[];
  requests: BlockRequest[];
}

/**
 * Commands from the request ring to the targets, and their completions back: a kick is one `pvscsiConsume`, one
 * `Block.submit` for each disk that is meant and one `pvscsiComplete`. What a disk finishes later is completed by itself.
 */
export class CommandQueue {
  readonly rings: RingContext;
  readonly targets = new Map<number, ScsiDisk>();
  readonly #memory: GuestMemory;
  readonly #completed: () => void;
  readonly #tasks = new Set<Task>();
  readonly #ending = new Set<Promise<void>>();
  /** Done with, to be used again. */
  readonly #spareTasks: Task[] = [];
  readonly #spareRequests: BlockRequest[] = [];
  /** Entries of PvscsiContext.Done that wait for `pvscsiComplete`. */
  #done = 0;
  #pumping = false;

  /** @param completed there are completions for the driver. @throws ParavaneError NO_SPACE */
  constructor(memory: GuestMemory, completed: () => void) {
    this.#memory = memory;
    this.#completed = completed;
    this.rings = new RingContext(memory);
  }

  /** Commands under way that somebody waits for. */
  get inFlight(): Task[] {
    return [...this.#tasks].filter(({ dead }) => !dead);
  }

  /** The end of all that the disks have been asked for. */
  get idle(): Promise<void> | undefined {
    return this.#ending.size > 0 ? Promise.all(this.#ending).then(() => {}) : undefined;
  }

  /** The guest's kick. */
  pump(): void {
    this.#pump(PvscsiAnswer.More);
  }

  /** Those commands end as told, when what the disk does for them has ended: until then their memory is not the guest's. */
  end(matches: (task: Task) => boolean, ending: HostStatus): void {
    for (const task of this.#tasks) if (matches(task)) task.ending = ending;
  }

  /** The rings are gone: nothing is written to them any more, whatever is still under way. */
  abandon(): void {
    for (const task of this.#tasks) task.dead = true;
    this.#done = 0;
    this.rings.clear();
  }

  /** Commands that were under way when they were saved: from the beginning. `begun` is called before any others are. */
  restart(tasks: readonly Task[], begun: () => void): void {
    this.#start(tasks);
    begun();
    this.#pump(this.#complete() | PvscsiAnswer.More);
  }

  /** While commands that were reset are still with the disks, what comes after them waits. */
  get #draining(): boolean {
    for (const { dead, ending } of this.#tasks) if (dead || ending === HostStatus.BusReset) return true;
    return false;
  }

  /** Goes on from a PvscsiAnswer for as long as there is more, then interrupts once at most. */
  #pump(answer: number): void {
    let answers = answer;
    if (!this.#pumping && !this.#draining) {
      this.#pumping = true;
      for (let last = answer; (last & PvscsiAnswer.More) !== 0; answers |= last) last = this.#round();
      this.#pumping = false;
    }
    if ((answers & PvscsiAnswer.Interrupt) !== 0) this.#completed();
  }

  #round(): number {
    const { core, address } = this.rings;
    const answer = core.call.pvscsiConsume(address);
    const count = this.rings.get(PvscsiContext.CommandCount);
    if (count === 0) return 0;
    const tasks: Task[] = [];
    for (let i = 0; i < count; i++) tasks.push(takeTask(core, address, i, this.#spareTasks.pop() ?? newTask()));
    this.#start(tasks);
    return answer | this.#complete();
  }

  #start(tasks: readonly Task[]): void {
    const batches: Batch[] = [];
    for (const task of tasks) {
      const disk = this.targets.get(task.target);
      if (task.ending !== HostStatus.Success) this.#finish(task, NOTHING);
      else if (!disk) {
        task.ending = HostStatus.SelectionTimeout;
        this.#finish(task, NOTHING);
      } else this.#begin(task, disk, batches);
    }
    for (const batch of batches) this.#submit(batch);
  }

  #begin(task: Task, disk: ScsiDisk, batches: Batch[]): void {
    const work = task.lunZero ? disk.begin(task.cdb) : disk.beginElsewhere(task.cdb);
    if (against(work, task.flags)) {
      task.ending = HostStatus.BadMessage;
      this.#finish(task, NOTHING);
      return;
    }
    const result = carryOut(work, task.buffer, this.#touch, this.#spareRequests);
    if (!("requests" in result)) {
      this.#finish(task, result);
      return;
    }
    task.requests = result;
    let batch = batches.find((each) => each.disk === disk);
    if (!batch) batches.push((batch = { disk, tasks: [], requests: [] }));
    batch.tasks.push(task);
    for (const request of result.requests) batch.requests.push(request);
  }

  #submit(batch: Batch): void {
    let pending: Later<void>;
    try {
      pending = batch.disk.block.submit(batch.requests);
    } catch {
      // A closed block: what it left pending is concluded as lost.
      pending = undefined;
    }
    if (!pending) {
      for (const task of batch.tasks) this.#conclude(task, batch.disk);
      return;
    }
    for (const task of batch.tasks) this.#tasks.add(task);
    const ended = pending
      .catch(() => {})
      .then(() => {
        this.#ending.delete(ended);
        for (const task of batch.tasks) {
          this.#tasks.delete(task);
          if (!task.dead) this.#conclude(task, batch.disk);
          else this.#forget(task);
        }
        this.#pump(this.#complete() | PvscsiAnswer.More);
      });
    this.#ending.add(ended);
  }

  #conclude(task: Task, disk: ScsiDisk): void {
    if (task.requests) this.#finish(task, conclude(task.requests, disk.blockSize));
  }

  /** Puts the command among those to be completed. */
  #finish(task: Task, { sense, bytes, overrun }: Outcome): void {
    const { core, address } = this.rings;
    const host = task.ending === HostStatus.Success && overrun ? HostStatus.DataRun : task.ending;
    const failed = sense !== null && host === HostStatus.Success;
    const told = failed ? senseBytes(sense).subarray(0, task.senseLength) : null;
    if (told && task.sense !== 0) {
      this.#memory.touch(task.sense, told.length);
      core.u8.set(told, task.sense);
    }
    const at = (address + PvscsiContext.Done + this.#done++ * PvscsiDone.Size) >>> 2;
    const { u32 } = core;
    u32[at] = task.context[0];
    u32[at + 1] = task.context[1];
    u32[at + PvscsiDone.DataLength / 4] = bytes;
    u32[at + PvscsiDone.SenseLength / 4] = told?.length ?? 0;
    u32[at + PvscsiDone.Status / 4] = host | ((failed ? ScsiStatus.CheckCondition : ScsiStatus.Good) << 16);
    this.#forget(task);
  }

  #forget(task: Task): void {
    if (task.requests) for (const request of task.requests.requests) this.#spareRequests.push(request);
    task.requests = null;
    this.#spareTasks.push(task);
  }

  #complete(): number {
    const count = this.#done;
    this.#done = 0;
    return count === 0 ? 0 : this.rings.core.call.pvscsiComplete(this.rings.address, count);
  }

  #touch = (segments: SegmentList): void => {
    for (let i = 0; i < segments.count; i++) this.#memory.touch(segments.start(i), segments.length(i));
  };
}

/** Would the data go the other way than the descriptor says? */
function against(work: Work, flags: number): boolean {
  const toHost = work.kind === "data" || (work.kind === "transfer" && work.op === Op.Read);
  const toDevice = work.kind === "want" || (work.kind === "transfer" && work.op === Op.Write);
  return (toHost && (flags & PvscsiFlag.ToDevice) !== 0) || (toDevice && (flags & PvscsiFlag.ToHost) !== 0);
}
