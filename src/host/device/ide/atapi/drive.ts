import { Asc, AudioStatus, EventClass, MediaEvent, SenseKey } from "../../../../../assembly/spec/mmc.ts";
import { ParavaneError } from "../../../../core/error.ts";
import { type Flow, type Later, run } from "../../../../core/flow.ts";
import type { Clock } from "../../../../core/machine.ts";
import type { SegmentList } from "../../../../core/segments.ts";
import type { Disc } from "../../../media/disc.ts";
import { SectorError } from "../../../media/read.ts";
import { scatter } from "../../../media/source.ts";
import type { PacketAnswer, PacketDevice, Plain, ResetKind } from "../device.ts";
import { type Answer, illegal, type ReadPlan, type Sense } from "./answer.ts";
import type { PacketCommand } from "./command.ts";
import { COMMANDS } from "./commands/index.ts";
import { fillIdentity } from "./identify.ts";
import { defaultModes } from "./mode-pages.ts";
import { type CdDriveOptions, identityOf, type Tray } from "./options.ts";
import { isPlan, readPlan } from "./sectors.ts";
import { Speaker } from "./speaker.ts";
import { addEvent, isCount, isState, type UnitState } from "./state.ts";
import { CdUnit } from "./unit.ts";

/** The command whose data is on its way: plain, but for the disc. */
interface Current {
  packet: number[];
  /** What is to be given, where it stands ready. */
  bytes: Uint8Array | null;
  plan: ReadPlan | null;
  /** What has been taken. */
  list: Uint8Array | null;
}

/** No answer but sectors, and no parameter list, is longer than an allocation length can say. In bytes. */
const MAX_DATA = 65535;

/** By UnitState.power; 0 is none. */
const POWER = [undefined, "active", "idle", "standby"] as const;
const ACTIVE = 1;

/** No drive says that a medium is write-protected, or worse, by more than its sense key (SFF-8020i). */
function errorRegister(sense: Sense): number {
  return sense.key << 4;
}

/** A CD or DVD drive: its packet commands over a disc, and its tray. */
export class CdDrive implements PacketDevice, Tray {
  readonly #unit: CdUnit;
  readonly #speaker: Speaker | null;
  #current: Current | null = null;
  /** The disc that the command under way reads. */
  #reading: Disc | null = null;
  #isPlugged = false;

  /** @throws ParavaneError INVALID (an identity that does not fit its field) */
  constructor(options: CdDriveOptions, clock: Clock, index: number) {
    this.#unit = new CdUnit(identityOf(options, index), clock, options.cd);
    this.#speaker = options.onAudio ? new Speaker(this.#unit, options.onAudio) : null;
    this.#unit.onTray = () => options.onTray?.(this.#unit.state.trayOpen);
  }

  // --- Tray --------------------------------------------------------------------------------------------------------------

  get disc(): Disc | null {
    return this.#unit.disc;
  }
  get isOpen(): boolean {
    return this.#unit.state.trayOpen;
  }
  get isLocked(): boolean {
    return this.#unit.isLocked;
  }

  insert(disc: Disc): void {
    this.#unit.swap(disc);
  }

  eject(options: { force?: boolean } = {}): Disc | null {
    const unit = this.#unit;
    const { disc } = unit;
    if (!unit.state.trayOpen && unit.isLocked && !options.force) {
      addEvent(unit.state, EventClass.Media, MediaEvent.EjectRequest);
      throw new ParavaneError(
        "BUSY",
        "the guest has locked the tray",
        {},
        { hint: "The guest has been asked to let go; try again, or force it" },
      );
    }
    unit.openTray();
    unit.disc = null;
    return disc;
  }

  pressEject(): void {
    const unit = this.#unit;
    if (unit.state.trayOpen) unit.closeTray();
    else if (unit.isLocked) addEvent(unit.state, EventClass.Media, MediaEvent.EjectRequest);
    else unit.openTray();
  }

  // --- Packet device -----------------------------------------------------------------------------------------------------

  identify(words: Uint16Array): void {
    fillIdentity(words, this.#unit.identity);
  }

  begin(packet: Uint8Array): Later<PacketAnswer> {
    this.#current = null;
    return run(this.#begin(packet.slice()));
  }

  *#begin(packet: Uint8Array): Flow<PacketAnswer> {
    const { disc } = this.#unit;
    const answer = yield* this.#dispatch(packet);
    this.#reading = disc;
    return this.#follow(answer, packet);
  }

  /** What stands between a packet and its execution: attention, readiness, and whether it means anything. */
  *#dispatch(packet: Uint8Array): Flow<Answer> {
    const unit = this.#unit;
    const { state } = unit;
    const command = COMMANDS.get(packet[0]);
    if (!command?.always) {
      const pending = this.#attention();
      if (pending) return { kind: "sense", sense: pending };
      // SPC-3: sense data lives until the next command.
      state.sense = null;
    }
    if (!command) return illegal(Asc.InvalidOperation);
    if (command.medium && !unit.medium) return { kind: "sense", sense: unit.notReady() };
    const decoded = command.decode(packet);
    if ("refusal" in decoded) return decoded.refusal;
    if (command.medium) state.power = ACTIVE;
    if (command.moves) unit.stopAudio(AudioStatus.None);
    try {
      const answer = command.execute(unit, decoded.args);
      return "kind" in answer ? answer : yield* answer;
    } catch (thrown) {
      return { kind: "sense", sense: senseOf(thrown) };
    }
  }

  /**
   * The unit attention, or what goes before it, that this command is told of instead of being carried out. It stays until
   * REQUEST SENSE has fetched it (SFF-8020i).
   */
  #attention(): Sense | undefined {
    const { state, medium } = this.#unit;
    if (state.sense?.key === SenseKey.UnitAttention) return state.sense;
    const waiting = state.attention.shift();
    if (waiting) return waiting;
    if (state.changed === 0 || !medium) return undefined;
    if (state.changed === 1) {
      state.changed = 2;
      return { key: SenseKey.NotReady, code: Asc.MediumNotPresent };
    }
    state.changed = 0;
    return { key: SenseKey.UnitAttention, code: Asc.MediumChanged };
  }

  #follow(answer: Answer, packet: Uint8Array): PacketAnswer {
    const current: Current = { packet: [...packet], bytes: null, plan: null, list: null };
    switch (answer.kind) {
      case "done":
        return { kind: "done" };
      case "sense":
        return { kind: "check", error: this.#fail(answer.sense) };
      case "data":
        this.#current = { ...current, bytes: answer.bytes };
        return { kind: "in", length: answer.bytes.length };
      case "read":
        this.#current = { ...current, plan: answer.plan };
        return { kind: "in", length: answer.plan.count * answer.plan.bytes };
      case "want":
        this.#current = { ...current, list: new Uint8Array(answer.length) };
        return { kind: "out", length: answer.length };
    }
  }

  #fail(sense: Sense): number {
    this.#unit.state.sense = sense;
    this.#current = null;
    return errorRegister(sense);
  }

  read(at: number, memory: Uint8Array, segments: SegmentList): Later<number> {
    return run(this.#read(at, memory, segments));
  }

  *#read(at: number, memory: Uint8Array, segments: SegmentList): Flow<number> {
    const current = this.#current;
    const unit = this.#unit;
    if (!current) return errorRegister({ key: SenseKey.HardwareError, code: Asc.InternalTargetFailure });
    if (current.bytes) {
      scatter(current.bytes.subarray(at), memory, segments, 0);
      return 0;
    }
    const { plan } = current;
    if (!plan) return this.#fail({ key: SenseKey.HardwareError, code: Asc.InternalTargetFailure });
    // The medium may have gone since.
    if (!unit.medium) return this.#fail(unit.notReady());
    if (unit.medium !== this.#reading) return this.#fail({ key: SenseKey.NotReady, code: Asc.MediumNotPresent });
    try {
      yield* readPlan(unit.medium, plan, at, memory, segments);
    } catch (thrown) {
      // The memory has grown, and not the disc failed: it is read once more.
      if (memory.length === 0) return 0;
      // A reset has come in between: nobody asks for this sense.
      return this.#current === current ? this.#fail(senseOf(thrown)) : SenseKey.HardwareError << 4;
    }
    unit.state.position = Math.min(plan.lba + Math.ceil((at + segments.total) / plan.bytes), unit.medium?.sectors ?? 0);
    return 0;
  }

  write(at: number, memory: Uint8Array, segments: SegmentList): number {
    const list = this.#current?.list;
    if (!list) return SenseKey.HardwareError << 4;
    let to = at;
    for (let i = 0; i < segments.count; i++) {
      const from = segments.start(i);
      const length = Math.min(segments.length(i), list.length - to);
      if (length > 0) list.set(memory.subarray(from, from + length), to);
      to += length;
    }
    return 0;
  }

  end(): PacketAnswer {
    const current = this.#current;
    this.#current = null;
    if (!current?.list) return { kind: "done" };
    const packet = Uint8Array.from(current.packet);
    // Decoded once more, so that a restored drive needs nothing but the packet.
    const command = COMMANDS.get(packet[0]) as PacketCommand;
    const decoded = command.decode(packet);
    if ("refusal" in decoded || !command.accept) return { kind: "done" };
    return this.#follow(command.accept(this.#unit, decoded.args, current.list), packet);
  }

  get power(): "active" | "idle" | "standby" {
    return POWER[this.#unit.state.power] ?? "active";
  }
  set power(mode: "active" | "idle" | "standby") {
    this.#unit.state.power = POWER.indexOf(mode);
  }

  /** DEVICE RESET and SRST stop the command and nothing else (SFF-8020i); the reset wire is as power-on. */
  reset(kind: ResetKind): void {
    this.#current = null;
    if (kind !== "power") return;
    const unit = this.#unit;
    if (this.#isPlugged) {
      unit.reset();
      unit.addAttention(Asc.PowerOnReset);
    }
    // What was there before the machine was is nothing to be told of.
    this.#isPlugged = true;
  }

  save(): Plain {
    const unit = this.#unit;
    const at = unit.audioPosition();
    const state = { ...unit.state, audio: { ...unit.state.audio, lba: at, since: 0 } };
    const current = this.#current;
    const bytes = (list: Uint8Array | null) => (list ? [...list] : null);
    return JSON.parse(
      JSON.stringify({
        state,
        sectors: unit.disc?.sectors ?? null,
        current: current && { ...current, bytes: bytes(current.bytes), list: bytes(current.list) },
      }),
    ) as Plain;
  }

  /** @throws ParavaneError INVALID, leaving the drive as it was */
  restore(saved: Plain): void {
    const { state, sectors, current } = saved as unknown as {
      state: UnitState;
      sectors: number | null;
      current: { packet: number[]; bytes: number[] | null; plan: ReadPlan | null; list: number[] | null } | null;
    };
    const unit = this.#unit;
    const lists = [current?.packet, current?.bytes, current?.list].filter((list) => list != null);
    const listed = lists.every((list) => list.length <= MAX_DATA && list.every((byte) => isCount(byte) && byte < 256));
    if (!isState(state, defaultModes()) || !listed || (current?.plan && !isPlan(current.plan))) {
      throw new ParavaneError("INVALID", "this is no saved state of a CD drive", { structure: "CD drive" });
    }
    unit.state = structuredClone(state);
    unit.state.audio.since = unit.clock.now();
    const bytes = (list: number[] | null) => list && Uint8Array.from(list);
    this.#current = current && { ...current, bytes: bytes(current.bytes), list: bytes(current.list) };
    this.#reading = unit.disc;
    // Another disc than it was saved with has been put in meanwhile.
    if ((unit.disc?.sectors ?? null) !== sectors) {
      this.#current = current?.plan ? { packet: current.packet, bytes: null, plan: null, list: null } : this.#current;
      unit.stopAudio(AudioStatus.None);
      if (unit.medium) unit.swap(unit.medium);
    }
    unit.onPlay();
  }

  /** Nothing is played any more. */
  close(): void {
    this.#speaker?.close();
  }
}

/** Sense data by cause: what the medium's image answered (SPC-3). */
function senseOf(thrown: unknown): Sense {
  const lba = thrown instanceof SectorError ? { lba: thrown.lba } : {};
  const code = thrown instanceof ParavaneError ? thrown.code : "IO";
  switch (code) {
    case "MEDIA":
    case "CORRUPT":
      return { key: SenseKey.MediumError, code: Asc.UnrecoveredRead, ...lba };
    case "OUT_OF_RANGE":
      return { key: SenseKey.IllegalRequest, code: Asc.LbaOutOfRange, ...lba };
    case "UNSUPPORTED":
      return { key: SenseKey.IllegalRequest, code: Asc.IllegalModeForTrack, ...lba };
    case "CRC":
      // ATA/ATAPI-6 §9.15: hardware error, and not ICRC, from a packet device.
      return { key: SenseKey.HardwareError, code: Asc.CommunicationCrc, ...lba };
    case "CLOSED":
      return { key: SenseKey.NotReady, code: Asc.MediumNotPresent };
    default:
      return { key: SenseKey.HardwareError, code: Asc.InternalTargetFailure, ...lba };
  }
}
