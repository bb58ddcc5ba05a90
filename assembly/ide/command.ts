// ATA command decode. Pure: reads the command table, the drive's registers and its settings, writes the action fields of
// the context and nothing else. Whoever adds a command adds its line here and its execution in the host.
import { AtaCommand, AtaError, AtaRegister } from "../spec/ata";
import { CommandBits, DriveField, DriveKind, IdeField, IdeOp, IdeProtocol } from "../spec/ide";
import { nowhere, readAddress } from "./address";
import { get, previous, put, register, usesLba } from "./context";

function row(table: usize, code: u32, op: u32, protocol: u32, traits: u32): void {
  const kinds = DriveKind.Disk << CommandBits.KindShift;
  store<u32>(table + code * 4, op | (protocol << CommandBits.ProtocolShift) | traits | kinds);
}

/** Fills the command table: one line a command (ATA/ATAPI-6, annex A). What is not listed aborts. */
export function fillCommands(t: usize): void {
  const sectors: u32 = CommandBits.Addressed;
  const ext: u32 = CommandBits.Addressed | CommandBits.Ext;
  memory.fill(t, 0, 256 * 4);
  row(t, AtaCommand.ReadSectors, IdeOp.Read, IdeProtocol.PioIn, sectors);
  row(t, AtaCommand.ReadSectorsOnce, IdeOp.Read, IdeProtocol.PioIn, sectors);
  row(t, AtaCommand.ReadSectorsExt, IdeOp.Read, IdeProtocol.PioIn, ext);
  row(t, AtaCommand.ReadMultiple, IdeOp.Read, IdeProtocol.PioIn, sectors | CommandBits.Multiple);
  row(t, AtaCommand.ReadMultipleExt, IdeOp.Read, IdeProtocol.PioIn, ext | CommandBits.Multiple);
  row(t, AtaCommand.ReadDma, IdeOp.Read, IdeProtocol.Dma, sectors);
  row(t, AtaCommand.ReadDmaOnce, IdeOp.Read, IdeProtocol.Dma, sectors);
  row(t, AtaCommand.ReadDmaExt, IdeOp.Read, IdeProtocol.Dma, ext);
  row(t, AtaCommand.WriteSectors, IdeOp.Write, IdeProtocol.PioOut, sectors);
  row(t, AtaCommand.WriteSectorsOnce, IdeOp.Write, IdeProtocol.PioOut, sectors);
  row(t, AtaCommand.WriteSectorsExt, IdeOp.Write, IdeProtocol.PioOut, ext);
  row(t, AtaCommand.WriteMultiple, IdeOp.Write, IdeProtocol.PioOut, sectors | CommandBits.Multiple);
  row(t, AtaCommand.WriteMultipleExt, IdeOp.Write, IdeProtocol.PioOut, ext | CommandBits.Multiple);
  row(t, AtaCommand.WriteDma, IdeOp.Write, IdeProtocol.Dma, sectors);
  row(t, AtaCommand.WriteDmaOnce, IdeOp.Write, IdeProtocol.Dma, sectors);
  row(t, AtaCommand.WriteDmaExt, IdeOp.Write, IdeProtocol.Dma, ext);
  row(t, AtaCommand.ReadVerify, IdeOp.Verify, IdeProtocol.NonData, sectors);
  row(t, AtaCommand.ReadVerifyOnce, IdeOp.Verify, IdeProtocol.NonData, sectors);
  row(t, AtaCommand.ReadVerifyExt, IdeOp.Verify, IdeProtocol.NonData, ext);
  row(t, AtaCommand.FlushCache, IdeOp.Flush, IdeProtocol.NonData, 0);
  row(t, AtaCommand.FlushCacheExt, IdeOp.Flush, IdeProtocol.NonData, CommandBits.Ext);
  row(t, AtaCommand.Identify, IdeOp.Identify, IdeProtocol.PioIn, 0);
  row(t, AtaCommand.SetFeatures, IdeOp.SetFeatures, IdeProtocol.NonData, 0);
  row(t, AtaCommand.SetMultiple, IdeOp.SetMultiple, IdeProtocol.NonData, 0);
  row(t, AtaCommand.InitializeParameters, IdeOp.InitializeParameters, IdeProtocol.NonData, 0);
  row(t, AtaCommand.ReadNativeMax, IdeOp.ReadNativeMax, IdeProtocol.NonData, 0);
  row(t, AtaCommand.ReadNativeMaxExt, IdeOp.ReadNativeMax, IdeProtocol.NonData, CommandBits.Ext);
  row(t, AtaCommand.ExecuteDiagnostic, IdeOp.Diagnostic, IdeProtocol.NonData, 0);
  row(t, AtaCommand.CheckPower, IdeOp.CheckPower, IdeProtocol.NonData, 0);
  row(t, AtaCommand.CheckPowerOld, IdeOp.CheckPower, IdeProtocol.NonData, 0);
  row(t, AtaCommand.Idle, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.IdleOld, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.IdleImmediate, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.IdleImmediateOld, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.Standby, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.StandbyOld, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.StandbyImmediate, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.StandbyImmediateOld, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.Sleep, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.SleepOld, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.Recalibrate, IdeOp.Nothing, IdeProtocol.NonData, 0);
  row(t, AtaCommand.Seek, IdeOp.Nothing, IdeProtocol.NonData, 0);
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
  if ((entry & CommandBits.Addressed) !== 0) {
    remaining = register(drive, AtaRegister.Count);
    if ((entry & CommandBits.Ext) !== 0) {
      // 48-bit addresses exist in LBA form only (ATA/ATAPI-6 §6.2.1).
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
}
