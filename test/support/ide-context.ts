import { AtaRegister, AtaTransfer, Prd } from "../../assembly/spec/ata.ts";
import { DriveField, DriveKind, IdeField, IdeLimit } from "../../assembly/spec/ide.ts";
import { Core, PAGE } from "../../src/wasm/core.ts";
import { RequestTable } from "../../src/wasm/requests.ts";

/** A channel's context and nothing around it: the core's IDE part on its own. RAM is the memory's second half. */
export class IdeContext {
  readonly core: Core;
  readonly at = 4096;
  readonly table: RequestTable;
  readonly ramBase = 8 * PAGE;
  readonly ramSize = 8 * PAGE;

  constructor(sectors: readonly (number | undefined)[] = [131072]) {
    this.core = new Core(new WebAssembly.Memory({ initial: 16, maximum: 16 }));
    const table = this.at + IdeField.Size;
    this.table = new RequestTable(this.core, table, 1, Prd.Entries);
    this.set(IdeField.RamBase, this.ramBase);
    this.set(IdeField.RamSize, this.ramSize);
    this.set(IdeField.Table, table);
    sectors.forEach((count, i) => {
      if (count === undefined) return;
      const drive = this.drive(i);
      this.core.set(drive + DriveField.Kind, DriveKind.Disk);
      this.core.set(drive + DriveField.SectorBytes, 512);
      this.core.set(drive + DriveField.Sectors, count >>> 0);
      this.core.set(drive + DriveField.Sectors + 4, Math.floor(count / 2 ** 32));
      this.core.set(drive + DriveField.Cylinders, 130);
      this.core.set(drive + DriveField.Heads, 16);
      this.core.set(drive + DriveField.SectorsPerTrack, 63);
      this.core.set(drive + DriveField.Multiple, IdeLimit.Multiple);
      this.core.set(drive + DriveField.TransferMode, AtaTransfer.UltraDma | 5);
      this.core.set(drive + DriveField.WriteCache, 1);
    });
    this.core.call.ideReset(this.at);
  }

  get(field: IdeField): number {
    return this.core.get(this.at + field);
  }
  set(field: IdeField, value: number): void {
    this.core.set(this.at + field, value);
  }
  drive(index: number): number {
    return this.at + IdeField.Drives + index * DriveField.Size;
  }
  driveField(index: number, field: DriveField): number {
    return this.core.get(this.drive(index) + field);
  }
  get lba(): number {
    return this.get(IdeField.Lba) + this.get(IdeField.Lba + 4) * 2 ** 32;
  }

  read(register: AtaRegister, width: 1 | 2 | 4 = 1): number {
    return this.core.call.ideRead(this.at, register, width) % 2 ** 32;
  }
  /** What the write leaves for the host to do. */
  write(register: AtaRegister, value: number, width: 1 | 2 | 4 = 1): number {
    return this.core.call.ideWrite(this.at, register, width, value);
  }
  finish(status: number, lba = -1): number {
    return this.core.call.ideFinish(this.at, status, lba);
  }

  /** Registers Features to Device, then the command. */
  command(code: number, ...[features, count, low, mid, high, device]: number[]): number {
    this.write(AtaRegister.Device, device ?? 0xe0);
    for (const [i, value] of [features, count, low, mid, high].entries())
      this.write((1 + i) as AtaRegister, value ?? 0);
    return this.write(AtaRegister.Command, code);
  }
}
