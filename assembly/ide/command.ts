// ATA command decode. Pure: reads the command table, the drive's registers and its settings, writes the action fields of
// the context and nothing else. Whoever adds a command adds its line here and its execution in the host.
import { AtaCommand, AtaError, AtaRegister } from "../spec/ata";
import { CommandBits, DriveField, DriveKind, IdeField, IdeOp, IdeProtocol } from "../spec/ide";
import { nowhere, readAddress } from "./address";
import { get, previous, put, register, usesLba } from "./context";

function row(table: usize, kinds: u32, code: u32, op: u32, protocol: u32, traits: u32): void {
  store<u32>(
    table + code * 4,
    op | (protocol << CommandBits.ProtocolShift) | traits | (kinds << CommandBits.KindShift),
  );
}

/** A command that the device carries out itself. */
function own(table: usize, kinds: u32, code: u32, op: u32, traits: u32 = 0): void {
  row(table, kinds, code, op, IdeProtocol.Device, traits);
}

/**
 * Fills the command table: one line a command, with the devices that know it. What is not listed aborts; that is on purpose
 * for NOP, which always does (§8.22), and for the queued commands (READ and WRITE DMA QUEUED, SERVICE), which IDENTIFY does
 * not offer, for they need a device that lets the bus go in the middle of a command, and no host of today sends them.
 */
export function fillCommands(t: usize): void {
  const lockable: u32 = CommandBits.Lockable;
  const sectors: u32 = CommandBits.Addressed | lockable;
  const ext: u32 = sectors | CommandBits.Ext;
  const multiple: u32 = CommandBits.Multiple;
  const disks: u32 = DriveKind.Disk | DriveKind.CompactFlash;
  const flash: u32 = DriveKind.CompactFlash;
  const packet: u32 = DriveKind.Packet;
  const all: u32 = disks | packet;
  memory.fill(t, 0, 256 * 4);
  row(t, disks, AtaCommand.ReadSectors, IdeOp.Read, IdeProtocol.PioIn, sectors | CommandBits.Signature);
  row(t, disks, AtaCommand.ReadSectorsOnce, IdeOp.Read, IdeProtocol.PioIn, sectors);
  row(t, disks, AtaCommand.ReadSectorsExt, IdeOp.Read, IdeProtocol.PioIn, ext);
  row(t, disks, AtaCommand.ReadMultiple, IdeOp.Read, IdeProtocol.PioIn, sectors | multiple);
  row(t, disks, AtaCommand.ReadMultipleExt, IdeOp.Read, IdeProtocol.PioIn, ext | multiple);
  row(t, disks, AtaCommand.ReadDma, IdeOp.Read, IdeProtocol.Dma, sectors);
  row(t, disks, AtaCommand.ReadDmaOnce, IdeOp.Read, IdeProtocol.Dma, sectors);
  row(t, disks, AtaCommand.ReadDmaExt, IdeOp.Read, IdeProtocol.Dma, ext);
  row(t, disks, AtaCommand.WriteSectors, IdeOp.Write, IdeProtocol.PioOut, sectors);
  row(t, disks, AtaCommand.WriteSectorsOnce, IdeOp.Write, IdeProtocol.PioOut, sectors);
  row(t, disks, AtaCommand.WriteVerify, IdeOp.Write, IdeProtocol.PioOut, sectors);
  row(t, flash, AtaCommand.CfaWriteSectors, IdeOp.Write, IdeProtocol.PioOut, sectors);
  row(t, flash, AtaCommand.CfaWriteMultiple, IdeOp.Write, IdeProtocol.PioOut, sectors | multiple);
  row(t, disks, AtaCommand.WriteSectorsExt, IdeOp.Write, IdeProtocol.PioOut, ext);
  row(t, disks, AtaCommand.WriteMultiple, IdeOp.Write, IdeProtocol.PioOut, sectors | multiple);
  row(t, disks, AtaCommand.WriteMultipleExt, IdeOp.Write, IdeProtocol.PioOut, ext | multiple);
  row(t, disks, AtaCommand.WriteMultipleFuaExt, IdeOp.Write, IdeProtocol.PioOut, ext | multiple);
  row(t, disks, AtaCommand.WriteDma, IdeOp.Write, IdeProtocol.Dma, sectors);
  row(t, disks, AtaCommand.WriteDmaOnce, IdeOp.Write, IdeProtocol.Dma, sectors);
  row(t, disks, AtaCommand.WriteDmaExt, IdeOp.Write, IdeProtocol.Dma, ext);
  row(t, disks, AtaCommand.WriteDmaFuaExt, IdeOp.Write, IdeProtocol.Dma, ext);
  row(t, disks, AtaCommand.ReadVerify, IdeOp.Verify, IdeProtocol.NonData, sectors);
  row(t, disks, AtaCommand.ReadVerifyOnce, IdeOp.Verify, IdeProtocol.NonData, sectors);
  row(t, disks, AtaCommand.ReadVerifyExt, IdeOp.Verify, IdeProtocol.NonData, ext);
  row(t, all, AtaCommand.FlushCache, IdeOp.Flush, IdeProtocol.NonData, lockable);
  row(t, disks, AtaCommand.FlushCacheExt, IdeOp.Flush, IdeProtocol.NonData, CommandBits.Ext | lockable);
  own(t, disks, AtaCommand.Identify, IdeOp.Identify, CommandBits.Signature);
  own(t, all, AtaCommand.SetFeatures, IdeOp.SetFeatures);
  own(t, disks, AtaCommand.SetMultiple, IdeOp.SetMultiple);
  own(t, disks, AtaCommand.InitializeParameters, IdeOp.InitializeParameters);
  own(t, disks, AtaCommand.ReadNativeMax, IdeOp.ReadNativeMax);
  own(t, disks, AtaCommand.ReadNativeMaxExt, IdeOp.ReadNativeMax, CommandBits.Ext);
  own(t, disks, AtaCommand.Recalibrate, IdeOp.Nothing);
  own(t, disks, AtaCommand.Seek, IdeOp.Nothing);
  own(t, all, AtaCommand.ExecuteDiagnostic, IdeOp.Diagnostic);
  own(t, all, AtaCommand.CheckPower, IdeOp.CheckPower);
  own(t, disks, AtaCommand.CheckPowerOld, IdeOp.CheckPower);
  own(t, all, AtaCommand.Idle, IdeOp.Power);
  own(t, disks, AtaCommand.IdleOld, IdeOp.Power);
  own(t, all, AtaCommand.IdleImmediate, IdeOp.Power);
  own(t, disks, AtaCommand.IdleImmediateOld, IdeOp.Power);
  own(t, all, AtaCommand.Standby, IdeOp.Power);
  own(t, disks, AtaCommand.StandbyOld, IdeOp.Power);
  own(t, all, AtaCommand.StandbyImmediate, IdeOp.Power);
  own(t, disks, AtaCommand.StandbyImmediateOld, IdeOp.Power);
  own(t, all, AtaCommand.Sleep, IdeOp.Power);
  own(t, disks, AtaCommand.SleepOld, IdeOp.Power);
  own(t, disks, AtaCommand.SetMax, IdeOp.SetMax, lockable);
  own(t, disks, AtaCommand.SetMaxExt, IdeOp.SetMax, lockable | CommandBits.Ext);
  own(t, disks, AtaCommand.ReadBuffer, IdeOp.ReadBuffer);
  own(t, disks, AtaCommand.ReadBufferDma, IdeOp.ReadBuffer);
  own(t, disks, AtaCommand.WriteBuffer, IdeOp.WriteBuffer);
  own(t, disks, AtaCommand.WriteBufferDma, IdeOp.WriteBuffer);
  own(t, disks, AtaCommand.SecuritySetPassword, IdeOp.Security, lockable);
  own(t, disks, AtaCommand.SecurityUnlock, IdeOp.Security);
  own(t, disks, AtaCommand.SecurityErasePrepare, IdeOp.Security);
  own(t, disks, AtaCommand.SecurityEraseUnit, IdeOp.Security);
  own(t, disks, AtaCommand.SecurityFreezeLock, IdeOp.Security, lockable);
  own(t, disks, AtaCommand.SecurityDisablePassword, IdeOp.Security, lockable);
  own(t, disks, AtaCommand.DeviceConfiguration, IdeOp.Configuration, lockable);
  own(t, disks, AtaCommand.ReadLogExt, IdeOp.ReadLog, CommandBits.Ext);
  own(t, disks, AtaCommand.ReadLogDmaExt, IdeOp.ReadLog, CommandBits.Ext);
  own(t, disks, AtaCommand.WriteLogExt, IdeOp.WriteLog, CommandBits.Ext);
  own(t, disks, AtaCommand.WriteLogDmaExt, IdeOp.WriteLog, CommandBits.Ext);
  own(t, disks, AtaCommand.WriteUncorrectableExt, IdeOp.WriteUncorrectable, ext);
  own(t, disks, AtaCommand.Smart, IdeOp.Smart);
  own(t, disks, AtaCommand.DataSetManagement, IdeOp.DataSetManagement, lockable | CommandBits.Ext);
  own(t, disks, AtaCommand.GetMediaStatus, IdeOp.MediaStatus);
  own(t, disks, AtaCommand.MediaLock, IdeOp.MediaStatus);
  own(t, disks, AtaCommand.MediaUnlock, IdeOp.MediaStatus);
  own(t, disks, AtaCommand.MediaEject, IdeOp.MediaStatus);
  own(t, flash, AtaCommand.CfaRequestError, IdeOp.CfaRequestError);
  own(t, flash, AtaCommand.CfaTranslateSector, IdeOp.CfaTranslate, lockable);
  own(t, flash, AtaCommand.CfaErase, IdeOp.CfaErase, lockable);
  own(t, flash, AtaCommand.CfaMetadata, IdeOp.Metadata, lockable);
  own(t, flash, AtaCommand.IbmSenseCondition, IdeOp.SenseCondition);
  own(t, packet, AtaCommand.Packet, IdeOp.Packet);
  own(t, packet, AtaCommand.IdentifyPacket, IdeOp.IdentifyPacket);
  own(t, packet, AtaCommand.DeviceReset, IdeOp.DeviceReset);
}

/** Decodes command `code` for `drive` into the action fields. A command refused outright becomes IdeOp.Abort. */
export function decode(ctx: usize, drive: usize, code: u32): void {
  const entry = get(ctx + IdeField.Commands + code * 4);
  const kind = get(drive + DriveField.Kind);
  let remaining: u32 = 1;
  let block: u32 = 1;
  let lba: u64 = 0;
  let fault: u32 = 0;
  let refused = (entry & (kind << CommandBits.KindShift)) === 0;
  if ((entry & get(drive + DriveField.Refused)) !== 0) refused = true;
  if ((entry & CommandBits.Addressed) !== 0) {
    remaining = register(drive, AtaRegister.Count);
    if ((entry & CommandBits.Ext) !== 0) {
      // 48-bit addresses exist in LBA form only (ATA/ATAPI-6 §6.20).
      if (!usesLba(drive)) refused = true;
      remaining |= previous(drive, AtaRegister.Count) << 8;
      if (remaining === 0) remaining = 65536;
    } else if (remaining === 0) remaining = 256;
    lba = readAddress(drive, entry);
    if (lba === nowhere()) {
      lba = 0;
      fault = AtaError.IdNotFound;
    }
  }
  if ((entry & CommandBits.Multiple) !== 0) {
    block = get(drive + DriveField.Multiple);
    if (block === 0) refused = true;
  }
  put(ctx + IdeField.Op, refused ? IdeOp.Abort : entry & CommandBits.Op);
  put(
    ctx + IdeField.Protocol,
    refused ? IdeProtocol.None : (entry & CommandBits.Protocol) >> CommandBits.ProtocolShift,
  );
  put(ctx + IdeField.Traits, entry);
  put(ctx + IdeField.Fault, refused ? AtaError.Abort : fault);
  store<u64>(ctx + IdeField.Lba, lba);
  put(ctx + IdeField.Remaining, remaining);
  put(ctx + IdeField.Block, block);
  put(ctx + IdeField.Unit, get(drive + DriveField.SectorBytes));
  put(ctx + IdeField.Command, code);
  put(ctx + IdeField.Step, 0);
}
