import { AtaConfigurable, AtaError, AtaRegister } from "../../../../../assembly/spec/ata.ts";
import { BlockRequest, Op, Status } from "../../../../core/block.ts";
import { type AtaDisk, offers, type Verdict } from "./command.ts";
import { forget } from "./uncorrectable.ts";

/** IDENTIFY word 105: blocks of ranges that one command may bring. */
export const TRIM_BLOCKS = 64;
/** ACS-2, LBA range entry: an entry has 48 bits of address and 16 of length. */
const ENTRY = 8;

/** DATA SET MANAGEMENT with TRIM (ACS-2): the ranges come by DMA. */
export function dataSetManagement(disk: AtaDisk): Verdict {
  const { port } = disk;
  const blocks = port.count(true);
  if ((port.register(AtaRegister.Features) & 1) === 0 || blocks === 0 || blocks > TRIM_BLOCKS) return false;
  if (!offers(disk, AtaConfigurable.Ext)) return false;
  port.dma(blocks * 512);
  return "answered";
}

/** A range in sectors. */
interface Range {
  lba: number;
  sectors: number;
}

/** The ranges in `bytes`; those of no length are skipped. */
function trimRanges(bytes: Uint8Array): Range[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ranges: Range[] = [];
  for (let at = 0; at + ENTRY <= bytes.length; at += ENTRY) {
    const sectors = view.getUint16(at + 6, true);
    const lba = view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
    if (sectors > 0) ranges.push({ lba, sectors });
  }
  return ranges;
}

/** All or nothing: ranges past the end are found before any is discarded. */
export function trim(disk: AtaDisk, bytes: Uint8Array): void {
  const { port, state, config } = disk;
  const ranges = trimRanges(bytes);
  const beyond = ranges.find(({ lba, sectors }) => lba + sectors > state.visible);
  if (beyond) {
    port.fail(AtaError.IdNotFound);
    return;
  }
  const batch = ranges.map(({ lba, sectors }) => {
    const request = new BlockRequest();
    request.op = Op.Discard;
    request.offset = lba * config.sectorBytes;
    request.length = sectors * config.sectorBytes;
    return request;
  });
  if (batch.length === 0) {
    port.finish(Status.Ok);
    return;
  }
  disk.submit(batch, (status, lba) => {
    if (status === Status.Ok) for (const range of ranges) forget(state, range.lba, range.lba + range.sectors);
    // A disk that cannot discard has still done as it was asked, for TRIM is advice.
    port.finish(status === Status.Unsupported ? Status.Ok : status, lba);
  });
}
