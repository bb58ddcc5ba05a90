import { AudioStatus, ModePage } from "../../../../../assembly/spec/mmc.ts";
import { run } from "../../../../core/flow.ts";
import type { Release } from "../../../../core/machine.ts";
import { readRaw } from "../../../media/read.ts";
import { RAW } from "../../../media/sector.ts";
import type { CdUnit } from "./unit.ts";

/** Milliseconds between looks at the play. */
const PERIOD = 50;
/** Sectors that are given at once: a second of them, however long nobody looked. */
const MOST = 75;

/** Reads what is played, as it is played, and hands it over. */
export class Speaker {
  readonly #unit: CdUnit;
  readonly #listener: (samples: Int16Array) => void;
  #next = 0;
  #timer: Release | null = null;
  #busy = false;

  constructor(unit: CdUnit, listener: (samples: Int16Array) => void) {
    this.#unit = unit;
    this.#listener = listener;
    unit.onPlay = () => this.#changed();
  }

  close(): void {
    this.#timer?.();
    this.#timer = null;
  }

  #changed(): void {
    const { audio } = this.#unit.state;
    if (audio.status === AudioStatus.Playing) {
      this.#next = audio.lba;
      this.#timer ??= this.#unit.clock.after(PERIOD, () => this.#tick());
    }
  }

  #tick(): void {
    this.#timer = null;
    const unit = this.#unit;
    const { audio } = unit.state;
    if (audio.status !== AudioStatus.Playing) return;
    const { end } = audio;
    const at = unit.audioPosition();
    const from = Math.max(this.#next, Math.min(at, end) - MOST);
    const count = Math.min(at, end) - from;
    if (count > 0 && !this.#busy) {
      this.#next = from + count;
      this.#give(from, count);
    }
    if (unit.state.audio.status === AudioStatus.Playing) {
      this.#timer = unit.clock.after(PERIOD, () => this.#tick());
    }
  }

  #give(lba: number, count: number): void {
    const disc = this.#unit.medium;
    if (!disc) return;
    const given = (raw: Uint8Array) => {
      this.#busy = false;
      this.#listener(this.#mixed(raw));
    };
    // MMC-3: what cannot be read ends the play.
    const failed = () => {
      this.#busy = false;
      this.#unit.stopAudio(AudioStatus.Stopped);
    };
    try {
      const raw = run(readRaw(disc, lba, count));
      if (raw instanceof Promise) {
        this.#busy = true;
        raw.then(given, failed);
      } else given(raw);
    } catch {
      failed();
    }
  }

  /** MMC-3: each output port selects channels, and has a volume of 0 to 255. */
  #mixed(raw: Uint8Array): Int16Array {
    const page = this.#unit.state.modes[ModePage.AudioControl];
    const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
    const samples = new Int16Array((raw.length / RAW) * (RAW / 2));
    for (let port = 0; port < 2; port++) {
      const channels = page[8 + port * 2] & 3;
      const volume = page[9 + port * 2] / 255;
      if (channels === 0 || volume === 0) continue;
      for (let i = 0; i < samples.length; i += 2) {
        const left = channels & 1 ? view.getInt16(i * 2, true) : 0;
        const right = channels & 2 ? view.getInt16(i * 2 + 2, true) : 0;
        const sum = channels === 3 ? (left + right) / 2 : left + right;
        samples[i + port] = Math.round(sum * volume);
      }
    }
    return samples;
  }
}
