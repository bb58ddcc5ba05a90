// Logs: SMART READ LOG and WRITE LOG (ATA/ATAPI-6 §8.51), READ LOG EXT and WRITE LOG EXT (§8.29, §8.59, ACS-2 for
// the DMA forms). A log is a row of blocks of 512 bytes; those of the host are kept as it writes them.
import { AtaCommand, AtaConfigurable, AtaLog, AtaRegister } from "../../../../../assembly/spec/ata.ts";
import { type AtaDisk, addChecksum, offers, type Verdict } from "./command.ts";
import { type ErrorEntry, SELF_TEST_SLOTS, type SelfTestEntry } from "./smart-state.ts";

/** Blocks of each host vendor-specific log. */
const HOST_BLOCKS = 16;
/** Errors in a block of the extended log. */
const EXTENDED_ERRORS = 4;
const EXTENDED_SELF_TESTS = 19;

function isHostLog(address: number): boolean {
  return address >= AtaLog.HostFirst && address <= AtaLog.HostLast;
}

/** Blocks of a log; 0 when there is none of that address. */
function blocksOf(disk: AtaDisk, address: number, general: boolean): number {
  if (isHostLog(address)) return HOST_BLOCKS;
  if (address === AtaLog.Directory) return 1;
  if (address === (general ? AtaLog.ExtendedErrors : AtaLog.SummaryErrors))
    return offers(disk, AtaConfigurable.ErrorLog) ? 1 : 0;
  if (address === (general ? AtaLog.ExtendedSelfTest : AtaLog.SelfTest))
    return offers(disk, AtaConfigurable.SelfTest) ? 1 : 0;
  return 0;
}

/** Blocks [first, first + count) of a log, or undefined when it has not all of them. */
function readLog(
  disk: AtaDisk,
  address: number,
  first: number,
  count: number,
  general: boolean,
): Uint8Array | undefined {
  const blocks = blocksOf(disk, address, general);
  if (count === 0 || first + count > blocks) return undefined;
  const bytes = isHostLog(address)
    ? (disk.state.logs[address] ?? new Uint8Array(HOST_BLOCKS * 512))
    : MAKERS[address](disk, general);
  return bytes.subarray(first * 512, (first + count) * 512);
}

/** The place of blocks [first, first + count) of a log that the host may write. */
export function writableLog(disk: AtaDisk, address: number, first: number, count: number): Uint8Array | undefined {
  if (!isHostLog(address) || count === 0 || first + count > HOST_BLOCKS) return undefined;
  disk.state.logs[address] ??= new Uint8Array(HOST_BLOCKS * 512);
  return disk.state.logs[address].subarray(first * 512, (first + count) * 512);
}

/** SMART READ LOG: up to 255 blocks, one DRQ block each. */
export function readSmartLog(disk: AtaDisk): Verdict {
  const { port } = disk;
  return giveBlocks(disk, readLog(disk, port.register(AtaRegister.LbaLow), 0, port.count(), false), port.count());
}

/** One block at each step. */
function giveBlocks(disk: AtaDisk, bytes: Uint8Array | undefined, count: number): Verdict {
  const { port } = disk;
  if (!bytes) return false;
  port.buffer.set(bytes.subarray(port.step * 512, (port.step + 1) * 512));
  if (port.step + 1 === count) port.dataInLast(512);
  else port.dataIn(512);
  return "answered";
}

/** Which blocks READ LOG EXT or WRITE LOG EXT names. */
function extent({ port }: AtaDisk): { address: number; first: number; count: number } {
  return {
    address: port.register(AtaRegister.LbaLow),
    first: port.register(AtaRegister.LbaMid) | (port.previous(AtaRegister.LbaMid) << 8),
    count: port.count(true),
  };
}

function logData(disk: AtaDisk): Uint8Array | undefined {
  const { address, first, count } = extent(disk);
  return readLog(disk, address, first, count, true);
}

export function readLogExt(disk: AtaDisk): Verdict {
  const bytes = logData(disk);
  if (disk.port.command === AtaCommand.ReadLogExt) return giveBlocks(disk, bytes, extent(disk).count);
  if (!bytes) return false;
  disk.port.dma(bytes.length);
  return "answered";
}

export function writeLogExt(disk: AtaDisk): Verdict {
  const { port } = disk;
  const { address, first, count } = extent(disk);
  const log = writableLog(disk, address, first, count);
  if (!log) return false;
  if (port.command !== AtaCommand.WriteLogExt) {
    port.dma(log.length);
    return "answered";
  }
  if (port.step > 0) log.set(port.buffer.subarray(0, 512), (port.step - 1) * 512);
  if (port.step === count) return true;
  port.dataOut(512, port.step === 0);
  return "answered";
}

/** The bytes that a DMA log command moves: to read, or to be written. */
export function logByDma(disk: AtaDisk): Uint8Array {
  const { address, first, count } = extent(disk);
  const written = disk.port.command === AtaCommand.WriteLogDmaExt;
  return (written ? writableLog(disk, address, first, count) : logData(disk)) ?? new Uint8Array(0);
}

const MAKERS: Record<number, (disk: AtaDisk, general: boolean) => Uint8Array> = {
  [AtaLog.Directory](disk, general) {
    const bytes = new Uint8Array(512);
    // Version 1; word n: blocks of log n.
    bytes[0] = 1;
    for (let address = 1; address < 256; address++) bytes[address * 2] = blocksOf(disk, address, general);
    return bytes;
  },

  /** Summary error log: five entries of 90 bytes, a ring whose newest byte 1 names. */
  [AtaLog.SummaryErrors]({ state: { smart } }) {
    const bytes = new Uint8Array(512);
    bytes[0] = 1;
    bytes[1] = smart.errors.length;
    smart.errors.forEach((entry, i) => {
      bytes.set(errorData(entry, false), 2 + i * 90);
    });
    put16(bytes, 452, smart.errorCount);
    addChecksum(bytes);
    return bytes;
  },

  /** ATA8-ACS annex A.7: entries of 124 bytes, four a block. */
  [AtaLog.ExtendedErrors]({ state: { smart } }) {
    const bytes = new Uint8Array(512);
    const entries = smart.errors.slice(-EXTENDED_ERRORS);
    bytes[0] = 1;
    put16(bytes, 2, entries.length);
    entries.forEach((entry, i) => {
      bytes.set(errorData(entry, true), 4 + i * 124);
    });
    put16(bytes, 500, smart.errorCount);
    addChecksum(bytes);
    return bytes;
  },

  /** Self-test log: 21 entries of 24 bytes. */
  [AtaLog.SelfTest]({ state: { smart } }) {
    const bytes = new Uint8Array(512);
    put16(bytes, 0, 1);
    smart.selfTests.slice(-SELF_TEST_SLOTS).forEach((entry, i) => {
      selfTestData(bytes, 2 + i * 24, entry, 4);
    });
    bytes[508] = smart.selfTests.length;
    addChecksum(bytes);
    return bytes;
  },

  /** ATA8-ACS annex A.8: 19 entries of 26 bytes. */
  [AtaLog.ExtendedSelfTest]({ state: { smart } }) {
    const bytes = new Uint8Array(512);
    const entries = smart.selfTests.slice(-EXTENDED_SELF_TESTS);
    bytes[0] = 1;
    put16(bytes, 2, entries.length);
    entries.forEach((entry, i) => {
      selfTestData(bytes, 4 + i * 26, entry, 6);
    });
    addChecksum(bytes);
    return bytes;
  },
};

/** Five command structures, of which the last is the command that failed, and the error structure. */
function errorData(entry: ErrorEntry, extended: boolean): Uint8Array {
  const commandBytes = extended ? 18 : 12;
  const bytes = new Uint8Array(extended ? 124 : 90);
  const at = 4 * commandBytes;
  const error = 5 * commandBytes;
  const lba = (n: number) => Math.floor(entry.lba / 2 ** (8 * n)) & 0xff;
  if (extended) {
    const pairs = [entry.features, entry.features >> 8, entry.count, entry.count >> 8];
    const address = [lba(0), lba(3), lba(1), lba(4), lba(2), lba(5)];
    bytes.set([0, ...pairs, ...address, entry.device, entry.command], at);
    put32(bytes, at + 14, entry.time);
    bytes.set([0, entry.error, entry.count, entry.count >> 8, ...address, entry.device, entry.status], error);
  } else {
    const device = (entry.device & 0xf0) | (entry.device & 0x40 ? lba(3) & 0x0f : entry.device & 0x0f);
    bytes.set([0, entry.features, entry.count, lba(0), lba(1), lba(2), device, entry.command], at);
    put32(bytes, at + 8, entry.time);
    bytes.set([0, entry.error, entry.count, lba(0), lba(1), lba(2), device, entry.status], error);
  }
  // State: active or idle.
  bytes[bytes.length - 3] = 0x03;
  put16(bytes, bytes.length - 2, entry.hours);
  return bytes;
}

function selfTestData(bytes: Uint8Array, at: number, entry: SelfTestEntry, lbaBytes: number): void {
  bytes[at] = entry.number;
  bytes[at + 1] = entry.status;
  put16(bytes, at + 2, entry.hours);
  for (let i = 0; i < lbaBytes; i++)
    bytes[at + 5 + i] = entry.lba < 0 ? 0xff : Math.floor(entry.lba / 2 ** (8 * i)) & 0xff;
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >> 8;
}
function put32(bytes: Uint8Array, at: number, value: number): void {
  put16(bytes, at, value & 0xffff);
  put16(bytes, at + 2, (value / 65536) & 0xffff);
}
