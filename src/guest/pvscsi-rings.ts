import {
  HostStatus,
  PvscsiCompletion,
  PvscsiElement,
  PvscsiFlag,
  PvscsiPage,
  PvscsiRequest,
  PvscsiRings,
} from "../../assembly/spec/pvscsi.ts";
import type { SegmentList } from "../core/segments.ts";
import type { GuestRam } from "../hypervisor/memory.ts";

/** Elements of a command's list: a page's half, as Linux's driver has them. */
export const MAX_ELEMENTS = 128;
const LIST = MAX_ELEMENTS * PvscsiElement.Size;
const SENSE = 32;
const NO_SENSE = new Uint8Array(0);
const PER_PAGE = PvscsiPage.Size / PvscsiRequest.Size;

/** A SCSI command for one target. Segments are guest-physical. */
export interface ScsiCall {
  target: number;
  /** 6, 10, 12 or 16 bytes. */
  cdb: Uint8Array;
  direction: "none" | "in" | "out";
  segments: SegmentList;
  /** Called once, from `poll`. */
  done(result: ScsiResult): void;
}

export interface ScsiResult {
  host: HostStatus;
  /** SCSI's status byte. */
  status: number;
  /** Bytes moved. */
  bytes: number;
  /** A copy. */
  sense: Uint8Array;
}

/** The driver's side of the rings: commands are numbered 1 to `entries`, each with a list and a sense buffer of its own. */
export class PvscsiDriverRings {
  readonly entries: number;
  /** Guest-physical. */
  readonly state: number;
  readonly requests: number;
  readonly completions: number;
  readonly pages: number;
  readonly #ram: GuestRam;
  readonly #view: DataView;
  readonly #lists: number;
  readonly #senses: number;
  readonly #calls: (ScsiCall | undefined)[];
  readonly #idle: number[] = [];
  #produced = 0;
  #consumed = 0;

  constructor(ram: GuestRam, pages: number) {
    this.#ram = ram;
    this.#view = new DataView(ram.memory.wasm.buffer, ram.memory.base, ram.size);
    this.pages = pages;
    this.entries = pages * PER_PAGE;
    this.state = ram.allocate(1);
    this.requests = ram.allocate(pages);
    this.completions = ram.allocate(pages);
    this.#lists = ram.allocate((this.entries * LIST) / PvscsiPage.Size);
    this.#senses = ram.allocate(Math.ceil((this.entries * SENSE) / PvscsiPage.Size));
    this.#calls = new Array(this.entries + 1);
    for (let id = this.entries; id > 0; id--) this.#idle.push(id);
  }

  /** Commands under way. */
  get inFlight(): number {
    return this.entries - this.#idle.length;
  }

  /** Puts a command on the ring, if there is room; the device does not know yet. */
  submit(call: ScsiCall): boolean {
    const id = this.#idle.pop();
    if (id === undefined) return false;
    const view = this.#view;
    const at = this.requests + (this.#produced % this.entries) * PvscsiRequest.Size;
    const put = (field: number, value: number) => view.setUint32(at + field, value, true);
    const put64 = (field: number, value: number) => {
      put(field, value);
      put(field + 4, 0);
    };
    const { segments, direction, cdb } = call;
    const list = segments.count > 1;
    const way = direction === "in" ? PvscsiFlag.ToHost : direction === "out" ? PvscsiFlag.ToDevice : PvscsiFlag.None;
    put64(PvscsiRequest.Context, id);
    put64(PvscsiRequest.DataAddress, list ? this.#list(id, segments) : segments.count === 1 ? segments.start(0) : 0);
    put64(PvscsiRequest.DataLength, segments.total);
    put64(PvscsiRequest.SenseAddress, this.#senses + (id - 1) * SENSE);
    put(PvscsiRequest.SenseLength, SENSE);
    put(PvscsiRequest.Flags, way | (list ? PvscsiFlag.List : 0));
    for (let i = PvscsiRequest.Cdb; i < PvscsiRequest.Size; i += 4) put(i, 0);
    for (let i = 0; i < cdb.length; i++) view.setUint8(at + PvscsiRequest.Cdb + i, cdb[i]);
    view.setUint8(at + PvscsiRequest.CdbLength, cdb.length);
    view.setUint8(at + PvscsiRequest.Target, call.target);
    this.#calls[id] = call;
    this.#produced = (this.#produced + 1) >>> 0;
    view.setUint32(this.state + PvscsiRings.RequestProducer, this.#produced, true);
    return true;
  }

  /** Is there something that `poll` would hand out? */
  get hasCompletions(): boolean {
    return this.#view.getUint32(this.state + PvscsiRings.CompletionProducer, true) !== this.#consumed;
  }

  /** Hands out what has been completed; how many. @returns -1 when the device has answered what it was not asked */
  poll(): number {
    const view = this.#view;
    let count = 0;
    while (view.getUint32(this.state + PvscsiRings.CompletionProducer, true) !== this.#consumed) {
      const at = this.completions + (this.#consumed % (this.pages * 128)) * PvscsiCompletion.Size;
      const id = view.getUint32(at + PvscsiCompletion.Context, true);
      const call = this.#calls[id];
      if (!call) return -1;
      const sense = this.#senses + (id - 1) * SENSE;
      const senseLength = Math.min(SENSE, view.getUint32(at + PvscsiCompletion.SenseLength, true));
      const result: ScsiResult = {
        host: view.getUint16(at + PvscsiCompletion.HostStatus, true),
        status: view.getUint16(at + PvscsiCompletion.ScsiStatus, true),
        bytes: view.getUint32(at + PvscsiCompletion.DataLength, true),
        sense: senseLength === 0 ? NO_SENSE : this.#ram.bytes(sense, senseLength).slice(),
      };
      this.#calls[id] = undefined;
      this.#idle.push(id);
      this.#consumed = (this.#consumed + 1) >>> 0;
      view.setUint32(this.state + PvscsiRings.CompletionConsumer, this.#consumed, true);
      count++;
      call.done(result);
    }
    return count;
  }

  /** What was under way and will never be completed ends as a bus that was reset. */
  abandon(): void {
    this.#calls.forEach((call, id) => {
      if (!call) return;
      this.#calls[id] = undefined;
      this.#idle.push(id);
      call.done({ host: HostStatus.BusReset, status: 0, bytes: 0, sense: NO_SENSE });
    });
  }

  free(): void {
    this.#ram.free(this.state, 1);
    this.#ram.free(this.requests, this.pages);
    this.#ram.free(this.completions, this.pages);
    this.#ram.free(this.#lists, (this.entries * LIST) / PvscsiPage.Size);
    this.#ram.free(this.#senses, Math.ceil((this.entries * SENSE) / PvscsiPage.Size));
  }

  #list(id: number, segments: SegmentList): number {
    const list = this.#lists + (id - 1) * LIST;
    for (let i = 0; i < segments.count; i++) {
      const at = list + i * PvscsiElement.Size;
      this.#view.setUint32(at + PvscsiElement.Address, segments.start(i), true);
      this.#view.setUint32(at + PvscsiElement.Address + 4, 0, true);
      this.#view.setUint32(at + PvscsiElement.Length, segments.length(i), true);
      this.#view.setUint32(at + PvscsiElement.Flags, 0, true);
    }
    return list;
  }
}
