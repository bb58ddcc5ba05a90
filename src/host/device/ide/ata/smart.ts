// The SMART feature set (ATA/ATAPI-6 §6.14, §8.51).
import { AtaConfigurable, AtaRegister, AtaSmart } from "../../../../../assembly/spec/ata.ts";
import { type AtaDisk, addChecksum, offers, reply, type Verdict } from "./command.ts";
import { readSmartLog, writableLog } from "./log.ts";
import { canTest, isExceeded, startTest } from "./self-test.ts";
import { lifeHours } from "./smart-state.ts";

/** One attribute: its number, status flags (bit 0: pre-failure), threshold, and what it counts. */
interface Attribute {
  id: number;
  flags: number;
  threshold: number;
  /** Normalized value, 1 to 253, and raw value. */
  now(disk: AtaDisk): [value: number, raw: number];
}

/** Sectors known to be bad, as far as a counter goes. */
function pending({ state }: AtaDisk): number {
  return Math.min(
    0xffff,
    state.uncorrectable.reduce((sum, [from, to]) => sum + to - from, 0),
  );
}
/** A value that falls from 100 as `count` grows. */
const falling = (count: number): number => Math.max(1, 100 - count);

const ATTRIBUTES: Attribute[] = [
  { id: 1, flags: 0x0f, threshold: 6, now: ({ state }) => [falling(state.smart.readErrors), state.smart.readErrors] },
  { id: 3, flags: 0x03, threshold: 0, now: () => [100, 16] },
  { id: 4, flags: 0x02, threshold: 20, now: ({ state }) => [100, state.smart.powerCycles] },
  { id: 5, flags: 0x03, threshold: 36, now: () => [100, 0] },
  { id: 9, flags: 0x03, threshold: 0, now: (disk) => [100, lifeHours(disk.state.smart, disk.port.clock.now())] },
  { id: 12, flags: 0x32, threshold: 0, now: ({ state }) => [100, state.smart.powerCycles] },
  { id: 190, flags: 0x03, threshold: 0x32, now: () => [69, 31] },
  { id: 197, flags: 0x12, threshold: 0, now: (disk) => [falling(pending(disk)), pending(disk)] },
  { id: 199, flags: 0x3e, threshold: 0, now: ({ state }) => [200, state.smart.crcErrors] },
];

export function smart(disk: AtaDisk): Verdict {
  const { port, state } = disk;
  const { smart } = state;
  const subcommand = port.register(AtaRegister.Features);
  const key = port.register(AtaRegister.LbaMid) | (port.register(AtaRegister.LbaHigh) << 8);
  if (!offers(disk, AtaConfigurable.Smart) || key !== AtaSmart.Key) return false;
  if (!smart.enabled && subcommand !== AtaSmart.Enable) return false;
  const count = port.count();
  switch (subcommand) {
    case AtaSmart.ReadData:
      return reply(disk, smartData(disk));
    case AtaSmart.ReadThresholds:
      return reply(disk, thresholds());
    case AtaSmart.Autosave:
      if (count !== 0 && count !== 0xf1) return false;
      smart.autosave = count === 0xf1;
      return true;
    case AtaSmart.AutoOffline:
      if (count !== 0 && count !== 0xf8) return false;
      smart.autoOffline = count === 0xf8;
      return true;
    case AtaSmart.SaveAttributes:
      // They are kept as they are counted.
      return true;
    case AtaSmart.Offline:
      return startTest(disk, port.register(AtaRegister.LbaLow));
    case AtaSmart.ReadLog:
      return readSmartLog(disk);
    case AtaSmart.WriteLog:
      return writeSmartLog(disk);
    case AtaSmart.Enable:
      smart.enabled = true;
      return true;
    case AtaSmart.Disable:
      smart.enabled = false;
      return true;
    case AtaSmart.ReturnStatus: {
      const answer = isFailing(disk) ? AtaSmart.Exceeded : AtaSmart.Key;
      port.setRegister(AtaRegister.LbaMid, answer);
      port.setRegister(AtaRegister.LbaHigh, answer >> 8);
      return true;
    }
    default:
      return false;
  }
}

/** RETURN STATUS: a pre-failure attribute at its threshold. */
function isFailing(disk: AtaDisk): boolean {
  return ATTRIBUTES.some(({ flags, threshold, now }) => (flags & 1) !== 0 && isExceeded(now(disk)[0], threshold));
}

/** READ DATA: attributes as everybody has them (ATA-3), status of off-line collection and self-test. */
function smartData(disk: AtaDisk): Uint8Array {
  const { smart } = disk.state;
  const bytes = new Uint8Array(512);
  bytes[0] = 1;
  ATTRIBUTES.forEach(({ id, flags, now }, i) => {
    const [value, raw] = now(disk);
    bytes.set([id, flags, 0, value, value, raw, raw >> 8], 2 + i * 12);
  });
  bytes[362] = smart.offlineStatus | (smart.autoOffline ? 0x80 : 0);
  bytes[363] = smart.test ? (0xf0 | (10 - smart.test.done)) & 0xff : smart.testStatus;
  // Seconds of off-line collection.
  bytes[364] = 10;
  // Off-line immediate and automatic, aborted by any command, self-tests.
  bytes[367] = 0x1b;
  // Attributes are saved before a power mode changes, and automatically.
  bytes[368] = 0x03;
  // Error logging, and general purpose logging.
  bytes[370] = 0x01;
  // Minutes of the short and of the extended self-test.
  bytes[372] = 1;
  bytes[373] = canTest(disk);
  addChecksum(bytes);
  return bytes;
}

function thresholds(): Uint8Array {
  const bytes = new Uint8Array(512);
  bytes[0] = 1;
  ATTRIBUTES.forEach(({ id, threshold }, i) => {
    bytes.set([id, threshold], 2 + i * 12);
  });
  addChecksum(bytes);
  return bytes;
}

/** WRITE LOG: host vendor-specific logs, by PIO in blocks of 512 bytes. */
function writeSmartLog(disk: AtaDisk): Verdict {
  const { port } = disk;
  const log = writableLog(disk, port.register(AtaRegister.LbaLow), 0, port.count());
  if (!log) return false;
  if (port.step > 0) log.set(port.buffer.subarray(0, 512), (port.step - 1) * 512);
  if (port.step === port.count()) return true;
  port.dataOut(512, port.step === 0);
  return "answered";
}
