import { AtaConfigurable, AtaFeature, AtaRegister, AtaTransfer } from "../../../../../assembly/spec/ata.ts";
import { DriveField, DriveKind } from "../../../../../assembly/spec/ide.ts";
import type { DevicePort } from "../port.ts";
import { type AtaDisk, offers, type Verdict } from "./command.ts";
import { modesTo } from "./state.ts";

/** ATA/ATAPI-6 §8.46. */
export function setFeatures(disk: AtaDisk): Verdict {
  const { port, state, config } = disk;
  const count = port.count();
  switch (port.register(AtaRegister.Features)) {
    case AtaFeature.EnableWriteCache:
      return set(port, DriveField.WriteCache, 1);
    case AtaFeature.DisableWriteCache:
      set(port, DriveField.WriteCache, 0);
      return "flush";
    case AtaFeature.EnableReadAhead:
      return set(port, DriveField.ReadAhead, 1);
    case AtaFeature.DisableReadAhead:
      return set(port, DriveField.ReadAhead, 0);
    case AtaFeature.SetTransferMode:
      return setTransferMode(port, {
        pio: config.modes.pio,
        singleWord: modesTo(config.modes.singleWord),
        multiWord: state.configuration.multiWord,
        ultra: state.configuration.ultra,
      });
    case AtaFeature.EnablePowerManagement:
      if (config.apm < 0 || count === 0 || count === 0xff) return false;
      state.apm = count;
      return true;
    case AtaFeature.DisablePowerManagement:
      state.apm = 0;
      return config.apm >= 0;
    case AtaFeature.EnableAcoustic:
      if (!offers(disk, AtaConfigurable.Acoustic)) return false;
      state.aam = count;
      return true;
    case AtaFeature.DisableAcoustic:
      state.aam = 0;
      return offers(disk, AtaConfigurable.Acoustic);
    case AtaFeature.KeepOnReset:
      state.reverts = false;
      return true;
    case AtaFeature.RevertOnReset:
      state.reverts = true;
      return true;
    case AtaFeature.EnableBytePort:
      return config.kind === DriveKind.CompactFlash && set(port, DriveField.BytePort, 1);
    case AtaFeature.DisableBytePort:
      return config.kind === DriveKind.CompactFlash && set(port, DriveField.BytePort, 0);
    case AtaFeature.CfaNop67:
    case AtaFeature.CfaNop69:
    case AtaFeature.CfaNop96:
    case AtaFeature.CfaSourceCurrent:
      return true;
    default:
      return false;
  }
}

function set(port: DevicePort, field: DriveField, value: number): true {
  port.set(field, value);
  return true;
}

/** Modes on offer: the fastest PIO mode, masks of the DMA kinds. */
export interface OfferedModes {
  pio: number;
  singleWord: number;
  multiWord: number;
  ultra: number;
}

/** §8.46, set transfer mode. The two PIO forms name no DMA mode, so none stays selected. */
export function setTransferMode(port: DevicePort, offered: OfferedModes): boolean {
  const mode = port.count();
  const masks: Record<number, number> = {
    // Default mode, with or without IORDY.
    [AtaTransfer.PioDefault]: 0x03,
    [AtaTransfer.PioFlow]: modesTo(offered.pio),
    [AtaTransfer.SingleWordDma]: offered.singleWord,
    [AtaTransfer.MultiWordDma]: offered.multiWord,
    [AtaTransfer.UltraDma]: offered.ultra,
  };
  const mask = masks[mode & AtaTransfer.Kind] ?? 0;
  return ((mask >> (mode & AtaTransfer.Mode)) & 1) !== 0 && set(port, DriveField.TransferMode, mode);
}

/** §8.49: a power of two up to what word 47 says; 0 switches READ and WRITE MULTIPLE off. */
export function setMultiple({ port, config }: AtaDisk): Verdict {
  const sectors = port.count();
  if (sectors > config.multiple || (sectors & (sectors - 1)) !== 0) return false;
  return set(port, DriveField.Multiple, sectors);
}

/** ATA/ATAPI-5, INITIALIZE DEVICE PARAMETERS (obsolete since): the translation that CHS addresses are in. */
export function initializeParameters({ port }: AtaDisk): Verdict {
  const track = port.count();
  const heads = (port.register(AtaRegister.Device) & 0x0f) + 1;
  if (track === 0) return false;
  port.set(DriveField.CurrentHeads, heads);
  port.set(DriveField.CurrentSectorsPerTrack, track);
  const cylinders = Math.floor(port.getWide(DriveField.Sectors) / (heads * track));
  return set(port, DriveField.CurrentCylinders, Math.min(65535, cylinders));
}
