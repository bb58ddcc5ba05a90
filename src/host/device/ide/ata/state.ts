import { AtaConfigurable } from "../../../../../assembly/spec/ata.ts";
import type { Plain } from "../device.ts";
import type { DriveConfig } from "./options.ts";
import { newRemovable, type Removable } from "./removable.ts";
import { newSecurity, type Security } from "./security.ts";
import { newSmart, type Smart } from "./smart-state.ts";

/**
 * What a disk knows besides its task file and the settings in the channel's context: plain data, so that a copy of it is a
 * save. Times are milliseconds of the machine's clock.
 */
export interface DiskState {
  apm: number;
  aam: number;
  /** SET FEATURES CCh: SRST restores the power-on settings. */
  reverts: boolean;
  /** Standby timer in milliseconds, 0 for none (ATA/ATAPI-6 §8.17). */
  standbyAfter: number;
  standby: boolean;
  /** When the last command came. */
  lastCommand: number;
  /** Sectors reached by commands: below the native maximum when there is a host protected area. */
  visible: number;
  /** The same after power-on. */
  visibleAtPowerOn: number;
  setMax: SetMaxState;
  configuration: ConfigurationState;
  security: Security;
  smart: Smart;
  /** READ and WRITE BUFFER. */
  buffer: Uint8Array;
  /** WRITE UNCORRECTABLE: [first, past the last] sector, in order and apart. */
  uncorrectable: [number, number][];
  /** Host vendor-specific logs 80h to 9Fh that have been written, by address (ATA/ATAPI-6 annex A of SMART). */
  logs: Record<string, Uint8Array>;
  /** The task file's command just before this one was a READ NATIVE MAX ADDRESS that succeeded. */
  nativeMaxRead: boolean;
  media: Removable;
}

export interface SetMaxState {
  password: Uint8Array | null;
  locked: boolean;
  frozen: boolean;
  /** Wrong passwords that UNLOCK still takes. */
  tries: number;
  /** A non-volatile SET MAX has been done since power-on. */
  done: boolean;
}

export interface ConfigurationState {
  frozen: boolean;
  /** What DEVICE CONFIGURATION SET has left: sectors, masks of modes, the feature bits of word 7. */
  sectors: number;
  multiWord: number;
  ultra: number;
  features: number;
}

export function newState(config: DriveConfig, now: number): DiskState {
  return {
    apm: Math.max(0, config.apm),
    aam: Math.max(0, config.aam),
    reverts: false,
    standbyAfter: 0,
    standby: false,
    lastCommand: now,
    visible: config.visibleSectors,
    visibleAtPowerOn: config.visibleSectors,
    setMax: newSetMax(),
    configuration: factoryConfiguration(config),
    security: newSecurity(),
    smart: newSmart(now),
    buffer: new Uint8Array(512),
    uncorrectable: [],
    logs: {},
    nativeMaxRead: false,
    media: newRemovable(),
  };
}

export function newSetMax(): SetMaxState {
  return { password: null, locked: false, frozen: false, tries: 5, done: false };
}

/** A mask of modes 0 to `highest`; none when it is below zero. */
export function modesTo(highest: number): number {
  return highest < 0 ? 0 : (2 << highest) - 1;
}

export function factoryConfiguration(config: DriveConfig): ConfigurationState {
  const always =
    AtaConfigurable.Smart |
    AtaConfigurable.SelfTest |
    AtaConfigurable.ErrorLog |
    AtaConfigurable.Security |
    AtaConfigurable.ProtectedArea;
  return {
    frozen: false,
    sectors: config.sectors,
    multiWord: modesTo(config.modes.multiWord),
    ultra: modesTo(config.modes.ultra),
    features: always | (config.aam < 0 ? 0 : AtaConfigurable.Acoustic) | (config.lba48 ? AtaConfigurable.Ext : 0),
  };
}

/** Byte strings as base64 in plain data: `{ base64: "…" }`. */
export function toPlain(value: unknown): Plain {
  if (value instanceof Uint8Array) return { base64: btoa(String.fromCharCode(...value)) };
  if (Array.isArray(value)) return value.map(toPlain);
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, toPlain(each)]));
  return value as Plain;
}

export function fromPlain(value: Plain): unknown {
  if (Array.isArray(value)) return value.map(fromPlain);
  if (typeof value !== "object" || value === null) return value;
  if (typeof value.base64 === "string") return Uint8Array.from(atob(value.base64), (c) => c.charCodeAt(0));
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, fromPlain(each)]));
}
