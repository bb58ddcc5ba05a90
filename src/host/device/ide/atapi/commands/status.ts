// Commands about the unit itself.
import { Asc, AudioStatus, PacketOp, SenseKey } from "../../../../../../assembly/spec/mmc.ts";
import { DONE, put16, put24, reply, type Sense, senseBytes } from "../answer.ts";
import { args, command, nothing } from "../command.ts";
import type { CdUnit } from "../unit.ts";

const testUnitReady = command({
  code: PacketOp.TestUnitReady,
  name: "TEST UNIT READY",
  medium: true,
  decode: nothing,
  execute: () => DONE,
});

/** MMC-3: what REQUEST SENSE says of an audio play when it has nothing worse to say. */
const AUDIO_SENSE: Partial<Record<AudioStatus, Asc>> = {
  [AudioStatus.Playing]: Asc.AudioPlaying,
  [AudioStatus.Paused]: Asc.AudioPaused,
  [AudioStatus.Completed]: Asc.AudioCompleted,
  [AudioStatus.Stopped]: Asc.AudioStopped,
};

/** SPC-3: telling it ends it, for a unit attention too. */
function takeSense(unit: CdUnit): Sense {
  const { state } = unit;
  const last = state.sense;
  state.sense = null;
  if (last) return last;
  const waiting = state.attention.shift();
  if (waiting) return waiting;
  unit.audioPosition();
  return { key: SenseKey.None, code: AUDIO_SENSE[state.audio.status] ?? Asc.None };
}

const requestSense = command<number>({
  code: PacketOp.RequestSense,
  name: "REQUEST SENSE",
  always: true,
  decode: (packet) => args(packet[4]),
  execute: (unit, allocation) => reply(senseBytes(takeSense(unit)), allocation),
});

const mechanismStatus = command<number>({
  code: PacketOp.MechanismStatus,
  name: "MECHANISM STATUS",
  decode: (packet) => args((packet[8] << 8) | packet[9]),
  execute(unit, allocation) {
    const { state } = unit;
    const at = unit.audioPosition();
    const bytes = new Uint8Array(8);
    // MMC-6: playing, or no activity; door open; not a changer: one slot, no table.
    bytes[1] = (state.audio.status === AudioStatus.Playing ? 0x20 : 0) | (state.trayOpen ? 0x10 : 0);
    put24(bytes, 2, state.audio.status === AudioStatus.Playing ? at : state.position);
    bytes[5] = 1;
    put16(bytes, 6, 0);
    return reply(bytes, allocation);
  },
});

/** MMC-6: there is nothing to write. */
const synchronizeCache = command({
  code: PacketOp.SynchronizeCache,
  name: "SYNCHRONIZE CACHE",
  medium: true,
  decode: nothing,
  execute: () => DONE,
});

export const STATUS = [testUnitReady, requestSense, mechanismStatus, synchronizeCache];
