import type { HostStatus } from "../../../../assembly/spec/pvscsi.ts";
import { PvscsiContext, PvscsiRecord } from "../../../../assembly/spec/pvscsi-context.ts";
import { SegmentList } from "../../../core/segments.ts";
import type { Core } from "../../../wasm/core.ts";
import type { DataBuffer, Requests } from "../scsi/execute.ts";

/** A command between the request ring and the completion ring. */
export interface Task {
  /** The guest's own name for it. */
  context: readonly [low: number, high: number];
  /** bus << 8 | target. */
  target: number;
  /** All eight bytes of it are zero. */
  lunZero: boolean;
  /** 16 bytes. */
  cdb: Uint8Array;
  flags: number;
  /** Linear address of the sense buffer, 0 for none, and its bytes. */
  sense: number;
  senseLength: number;
  buffer: DataBuffer;
  /** What the block was asked for, once it was. */
  requests: Requests | null;
  /** It ends with this, whatever becomes of it: refused, aborted, reset. */
  ending: HostStatus;
  /** Nobody waits for it any more: its rings are gone. */
  dead: boolean;
}

/** Record `index` of the last consume, as a task. */
export function takeTask(core: Core, ctx: number, index: number): Task {
  const { u8, u32 } = core;
  const record = ctx + PvscsiContext.Commands + index * PvscsiRecord.Size;
  const at = record >>> 2;
  const segments = new SegmentList(2);
  let from = (ctx + PvscsiContext.Segments + 8 * u32[at + PvscsiRecord.FirstSegment / 4]) >>> 2;
  for (let left = u32[at + PvscsiRecord.Segments / 4]; left > 0; left--, from += 2) {
    segments.push(u32[from], u32[from + 1]);
  }
  return {
    context: [u32[at], u32[at + 1]],
    target: u32[at + PvscsiRecord.Target / 4],
    lunZero: u32[at + PvscsiRecord.Lun / 4] === 0 && u32[at + PvscsiRecord.Lun / 4 + 1] === 0,
    cdb: u8.slice(record + PvscsiRecord.Cdb, record + PvscsiRecord.Cdb + 16),
    flags: u32[at + PvscsiRecord.Flags / 4],
    sense: u32[at + PvscsiRecord.Sense / 4],
    senseLength: u32[at + PvscsiRecord.SenseLength / 4],
    buffer: { memory: u8, segments, bytes: u32[at + PvscsiRecord.Bytes / 4] },
    requests: null,
    ending: u32[at + PvscsiRecord.Refusal / 4],
    dead: false,
  };
}
