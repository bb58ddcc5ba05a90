import { HostStatus, PvscsiCdb } from "../../../../assembly/spec/pvscsi.ts";
import { PvscsiContext, PvscsiRecord } from "../../../../assembly/spec/pvscsi-context.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Core } from "../../../wasm/core.ts";
import type { DataBuffer, Requests } from "../scsi/execute.ts";

/** A command between the request ring and the completion ring. */
export interface Task {
  /** The guest's own name for it. */
  readonly context: [low: number, high: number];
  /** bus << 8 | target. */
  target: number;
  /** All eight bytes of it are zero. */
  lunZero: boolean;
  /** 16 bytes. */
  readonly cdb: Uint8Array;
  flags: number;
  /** Linear address of the sense buffer, 0 for none, and its bytes. */
  sense: number;
  senseLength: number;
  readonly buffer: DataBuffer;
  /** What the block was asked for, once it was. */
  requests: Requests | null;
  /** It ends with this, whatever becomes of it: refused, aborted, reset. */
  ending: HostStatus;
  /** Nobody waits for it any more: its rings are gone. */
  dead: boolean;
}

/** Tasks are used again: what a ring brings in a second is a good part of what there would be to collect. */
export function newTask(): Task {
  return {
    context: [0, 0],
    target: 0,
    lunZero: true,
    cdb: new Uint8Array(PvscsiCdb.Size),
    flags: 0,
    sense: 0,
    senseLength: 0,
    buffer: { memory: new Uint8Array(0), segments: new SegmentList(), bytes: 0 },
    requests: null,
    ending: HostStatus.Success,
    dead: false,
  };
}

/** Fills `task` from record `index` of the last consume. */
export function takeTask(core: Core, ctx: number, index: number, task: Task): Task {
  const { u8, u32 } = core;
  const record = ctx + PvscsiContext.Commands + index * PvscsiRecord.Size;
  const at = record >>> 2;
  const { segments } = task.buffer;
  segments.clear();
  let from = (ctx + PvscsiContext.Segments + 8 * u32[at + PvscsiRecord.FirstSegment / 4]) >>> 2;
  for (let left = u32[at + PvscsiRecord.Segments / 4]; left > 0; left--, from += 2) {
    segments.push(u32[from], u32[from + 1]);
  }
  task.context[0] = u32[at];
  task.context[1] = u32[at + 1];
  task.target = u32[at + PvscsiRecord.Target / 4];
  task.lunZero = u32[at + PvscsiRecord.Lun / 4] === 0 && u32[at + PvscsiRecord.Lun / 4 + 1] === 0;
  for (let i = 0; i < PvscsiCdb.Size; i++) task.cdb[i] = u8[record + PvscsiRecord.Cdb + i];
  task.flags = u32[at + PvscsiRecord.Flags / 4];
  task.sense = u32[at + PvscsiRecord.Sense / 4];
  task.senseLength = u32[at + PvscsiRecord.SenseLength / 4];
  task.buffer.memory = u8;
  task.buffer.bytes = u32[at + PvscsiRecord.Bytes / 4];
  task.requests = null;
  task.ending = u32[at + PvscsiRecord.Refusal / 4];
  task.dead = false;
  return task;
}
