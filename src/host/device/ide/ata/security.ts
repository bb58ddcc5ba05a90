// The security mode feature set (ATA/ATAPI-6 §6.13, commands §8.38 to §8.43).
import { AtaCommand, AtaConfigurable, AtaError, AtaRegister, AtaStatus } from "../../../../../assembly/spec/ata.ts";
import { DriveKind } from "../../../../../assembly/spec/ide.ts";
import { BlockRequest, Op, Status } from "../../../../core/block.ts";
import { type AtaDisk, offers, takeBlock, type Verdict } from "./command.ts";

export interface Security {
  /** A user password is set. */
  enabled: boolean;
  /** Until unlocked, media commands are refused. */
  locked: boolean;
  /** Until power-on, everything here but freezing again is refused. */
  frozen: boolean;
  /** "Maximum": the master password only erases. */
  maximum: boolean;
  user: Uint8Array;
  master: Uint8Array;
  masterRevision: number;
  /** Wrong passwords that UNLOCK still takes (§6.13). */
  tries: number;
  /** ERASE PREPARE came just before. */
  prepared: boolean;
  /** Where an erase stands, in sectors, with the answer it owes; null when none is under way. */
  erasing: number | null;
}

const TRIES = 5;
/** Sectors that one request of an erase clears. */
const ERASE_SECTORS = 1 << 20;

export function newSecurity(): Security {
  return {
    enabled: false,
    locked: false,
    frozen: false,
    maximum: false,
    user: new Uint8Array(32),
    master: new Uint8Array(32),
    masterRevision: 0xfffe,
    tries: TRIES,
    prepared: false,
    erasing: null,
  };
}

/** What power-on and hardware reset do. */
export function securityAtPowerOn(security: Security): void {
  security.locked = security.enabled;
  security.frozen = false;
  security.tries = TRIES;
  security.prepared = false;
  security.erasing = null;
}

/** IDENTIFY DEVICE word 128 (§8.15). */
export function securityWord(security: Security): number {
  const bits = [true, security.enabled, security.locked, security.frozen, security.tries === 0, true];
  return bits.reduce((word, bit, i) => word | (bit ? 1 << i : 0), security.maximum ? 0x0100 : 0);
}

export function security(disk: AtaDisk): Verdict {
  const { port, state, config } = disk;
  const { security } = state;
  const { command } = port;
  const prepared = security.prepared;
  if (port.step === 0) security.prepared = false;
  if (command === AtaCommand.SecurityFreezeLock) {
    // The same code is WEAR LEVEL for CompactFlash (CF+ 1.4), which has nothing to report.
    if (config.kind === DriveKind.CompactFlash) port.setRegister(AtaRegister.Count, 0);
    else if (!offers(disk, AtaConfigurable.Security)) return false;
    else security.frozen = true;
    return true;
  }
  if (!offers(disk, AtaConfigurable.Security) || security.frozen) return false;
  if (command === AtaCommand.SecurityErasePrepare) {
    security.prepared = true;
    return true;
  }
  const ready =
    (command !== AtaCommand.SecurityUnlock || security.tries > 0) &&
    (command !== AtaCommand.SecurityEraseUnit || prepared);
  const block = takeBlock(disk, ready);
  if (!(block instanceof Uint8Array)) return block;
  const master = (block[0] & 1) !== 0;
  const password = block.slice(2, 34);
  switch (command) {
    case AtaCommand.SecuritySetPassword:
      return setPassword(security, block, master, password);
    case AtaCommand.SecurityUnlock:
      return unlock(disk, master, password);
    case AtaCommand.SecurityDisablePassword:
      if (!security.enabled || !matches(security, master, password)) return false;
      security.enabled = false;
      return true;
    default:
      return erase(disk, master, password);
  }
}

/** §8.42. */
function setPassword(security: Security, block: Uint8Array, master: boolean, password: Uint8Array): Verdict {
  if (master) {
    security.master = password;
    const revision = block[34] | (block[35] << 8);
    // §8.42: 0000h and FFFFh leave the revision as it is.
    if (revision !== 0 && revision !== 0xffff) security.masterRevision = revision;
  } else {
    security.user = password;
    security.enabled = true;
    security.maximum = (block[1] & 1) !== 0;
  }
  return true;
}

/** At maximum level the master password opens nothing (§6.13). */
function matches(security: Security, master: boolean, password: Uint8Array, toErase = false): boolean {
  if (master && security.maximum && !toErase && security.enabled) return false;
  const kept = master ? security.master : security.user;
  return kept.every((byte, i) => byte === password[i]);
}

/** §8.38. */
function unlock(disk: AtaDisk, master: boolean, password: Uint8Array): Verdict {
  const { security } = disk.state;
  if (!security.enabled || !matches(security, master, password)) {
    if (security.locked) security.tries--;
    return false;
  }
  security.locked = false;
  security.tries = TRIES;
  disk.publish();
  return true;
}

/** §8.40: all of the native area becomes zeros, the user password goes, the media is open. */
function erase(disk: AtaDisk, master: boolean, password: Uint8Array): Verdict {
  const { security } = disk.state;
  if (!matches(security, master, password, true) || (!master && !security.enabled)) return false;
  security.erasing = 0;
  eraseOn(disk);
  return "answered";
}

/** Clears the next part. */
function eraseOn(disk: AtaDisk): void {
  const { port, state, config } = disk;
  const { security } = state;
  // A reset has ended it: what is owed is an answer.
  if (security.erasing === null) {
    port.fail(AtaError.Abort);
    return;
  }
  const left = config.sectors - security.erasing;
  if (left === 0) {
    security.erasing = null;
    security.enabled = false;
    security.locked = false;
    security.tries = TRIES;
    state.uncorrectable = [];
    disk.publish();
    port.done();
    return;
  }
  const sectors = Math.min(left, ERASE_SECTORS);
  const request = new BlockRequest();
  request.op = Op.WriteZeroes;
  request.offset = security.erasing * config.sectorBytes;
  request.length = sectors * config.sectorBytes;
  disk.submit([request], (status) => {
    if (status === Status.Ok) {
      if (security.erasing !== null) security.erasing += sectors;
      // One request a turn: a disk of any size is erased in bounded pieces.
      port.clock.after(0, () => eraseOn(disk));
    } else {
      security.erasing = null;
      const refused = status === Status.ReadOnly || status === Status.Unsupported;
      port.fail(AtaError.Abort, refused ? 0 : AtaStatus.DeviceFault);
    }
  });
}
