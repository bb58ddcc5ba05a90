import { Asc, AudioStatus, EventClass, MediaEvent, SenseKey } from "../../../../../assembly/spec/mmc.ts";
import type { Clock } from "../../../../core/machine.ts";
import type { Disc } from "../../../media/disc.ts";
import type { Sense } from "./answer.ts";
import { defaultModes } from "./mode-pages.ts";
import { addEvent, initialState, type UnitState } from "./state.ts";

/** MMC-6: the event code "changed"; which features are current has. */
const OPERATIONAL_CHANGED = 2;

/** How a drive presents itself. */
export interface CdIdentity {
  /** INQUIRY: at most 8, 16 and 4 ASCII characters. */
  vendor: string;
  product: string;
  revision: string;
  /** IDENTIFY: at most 40 and 20. */
  model: string;
  serial: string;
}

/** The logical unit: tray, medium and all that commands change. What is said of a medium holds while the tray is closed. */
export class CdUnit {
  readonly identity: CdIdentity;
  readonly clock: Clock;
  state: UnitState = initialState(defaultModes());
  /** In the tray, open or closed. */
  disc: Disc | null;
  /** Told when an audio play starts, pauses or ends. */
  onPlay: () => void = () => {};
  onTray: () => void = () => {};

  constructor(identity: CdIdentity, clock: Clock, disc: Disc | null) {
    this.identity = identity;
    this.clock = clock;
    this.disc = disc;
  }

  /** What can be read; null with an open or empty tray. */
  get medium(): Disc | null {
    return this.state.trayOpen ? null : this.disc;
  }

  get isLocked(): boolean {
    return this.state.prevent || this.state.persistent;
  }

  /** Why nothing can be read. */
  notReady(): Sense {
    const code = this.state.trayOpen ? Asc.MediumNotPresentTrayOpen : Asc.MediumNotPresentTrayClosed;
    return { key: SenseKey.NotReady, code };
  }

  /** The tray goes out, and the medium with it. */
  openTray(): void {
    const { state } = this;
    if (state.trayOpen) return;
    this.stopAudio(AudioStatus.None);
    if (this.disc) {
      addEvent(state, EventClass.Media, MediaEvent.MediaRemoval);
      addEvent(state, EventClass.OperationalChange, OPERATIONAL_CHANGED);
    }
    state.trayOpen = true;
    state.changed = 0;
    state.position = 0;
    // What was to be said of the medium is no longer so.
    state.attention = state.attention.filter(({ code }) => code !== Asc.MediumChanged);
    this.onTray();
  }

  /** The tray comes in. With a medium that is a transition to ready, of which the next command hears. */
  closeTray(): void {
    const { state } = this;
    if (!state.trayOpen) return;
    state.trayOpen = false;
    if (this.disc) {
      this.#arrived();
      this.addAttention(Asc.MediumChanged);
    }
    this.onTray();
  }

  /**
   * A medium is put in from outside, whatever the tray's state. The host has seen neither the tray nor an empty drive, so
   * one command is told that there is no medium, and the next that it may have changed.
   */
  swap(disc: Disc): void {
    this.stopAudio(AudioStatus.None);
    this.disc = disc;
    this.state.trayOpen = false;
    this.state.position = 0;
    this.state.changed = 1;
    this.state.attention = this.state.attention.filter(({ code }) => code !== Asc.MediumChanged);
    this.#arrived();
    this.onTray();
  }

  #arrived(): void {
    addEvent(this.state, EventClass.Media, MediaEvent.NewMedia);
    addEvent(this.state, EventClass.OperationalChange, OPERATIONAL_CHANGED);
  }

  /** The reset wire: settings are as they were at power-on; the tray stays as it is, and is unlocked. */
  reset(): void {
    this.stopAudio(AudioStatus.None);
    const { trayOpen, events, changed, region, regionChanges } = this.state;
    this.state = { ...initialState(defaultModes()), trayOpen, events, changed, region, regionChanges };
  }

  addAttention(code: Asc): void {
    const { attention } = this.state;
    if (attention.some((each) => each.code === code)) return;
    attention.push({ key: SenseKey.UnitAttention, code });
  }

  // --- Audio (MMC-3) ------------------------------------------------------------------------------------------------

  /** Where the play is now. Ends it when it has come to its end. */
  audioPosition(): number {
    const { audio } = this.state;
    if (audio.status !== AudioStatus.Playing) return audio.lba;
    const lba = audio.lba + Math.floor(((this.clock.now() - audio.since) * 75) / 1000);
    if (lba < audio.end) return lba;
    audio.status = audio.ends;
    audio.lba = audio.end;
    this.state.position = audio.end;
    this.onPlay();
    return audio.lba;
  }

  play(lba: number, end: number, ends: AudioStatus): void {
    this.state.audio = { status: AudioStatus.Playing, lba, end, ends, since: this.clock.now() };
    this.onPlay();
  }

  pause(): void {
    const lba = this.audioPosition();
    if (this.state.audio.status !== AudioStatus.Playing) return;
    this.state.audio = { ...this.state.audio, status: AudioStatus.Paused, lba };
    this.onPlay();
  }

  /** Ends a play or a pause; where it was is where the head stays. */
  stopAudio(status: AudioStatus): void {
    const lba = this.audioPosition();
    const { audio } = this.state;
    if (audio.status !== AudioStatus.Playing && audio.status !== AudioStatus.Paused) return;
    this.state.audio = { ...audio, status, lba };
    this.state.position = lba;
    this.onPlay();
  }
}
