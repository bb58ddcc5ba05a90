/** A self-test log entry (ATA/ATAPI-6 §8.51, SMART READ LOG). */
export interface SelfTestEntry {
  /** LBA low of EXECUTE OFF-LINE IMMEDIATE. */
  number: number;
  /** Self-test execution status: result in the high half, tenths left in the low one. */
  status: number;
  /** Hours of power-on. */
  hours: number;
  /** First sector that could not be read; -1 for none. */
  lba: number;
}

/** What the error logs keep of a command that failed (SMART READ LOG, summary error log). */
export interface ErrorEntry {
  command: number;
  features: number;
  count: number;
  lba: number;
  device: number;
  /** Error and Status as reported. */
  error: number;
  status: number;
  /** Milliseconds since power-on, and hours of life. */
  time: number;
  hours: number;
}

/** A self-test, or off-line data collection, under way. */
interface RunningTest {
  /** LBA low of EXECUTE OFF-LINE IMMEDIATE. */
  number: number;
  captive: boolean;
  /** Tenths done. */
  done: number;
  /** Next sector of this tenth. */
  next: number;
  /** When it goes on. */
  due: number;
}

export interface Smart {
  enabled: boolean;
  autosave: boolean;
  autoOffline: boolean;
  /** Off-line data collection status (SMART READ DATA). */
  offlineStatus: number;
  /** Self-test execution status of the last test. */
  testStatus: number;
  test: RunningTest | null;
  /** Newest last; at most 21, the slots of the log. */
  selfTests: SelfTestEntry[];
  /** Newest last; at most 5, the slots of the summary log. */
  errors: ErrorEntry[];
  /** All errors there have been. */
  errorCount: number;
  /** Clock at power-on, and milliseconds of life before it. */
  poweredOn: number;
  earlier: number;
  powerCycles: number;
  /** Reads that failed with the media as cause. */
  readErrors: number;
  /** Ultra DMA transfers that arrived damaged. */
  crcErrors: number;
}

export const SELF_TEST_SLOTS = 21;
const ERROR_SLOTS = 5;

export function newSmart(now: number): Smart {
  return {
    enabled: true,
    autosave: true,
    autoOffline: false,
    offlineStatus: 0,
    testStatus: 0,
    test: null,
    selfTests: [],
    errors: [],
    errorCount: 0,
    poweredOn: now,
    earlier: 0,
    powerCycles: 1,
    readErrors: 0,
    crcErrors: 0,
  };
}

export function lifeHours(smart: Smart, now: number): number {
  return Math.floor((smart.earlier + now - smart.poweredOn) / 3_600_000) & 0xffff;
}

/** CVE-2014-2894: the ring is bounded here and nowhere else. */
export function logSelfTest(smart: Smart, entry: SelfTestEntry): void {
  smart.selfTests.push(entry);
  if (smart.selfTests.length > SELF_TEST_SLOTS) smart.selfTests.shift();
}

export function logError(smart: Smart, entry: ErrorEntry): void {
  smart.errors.push(entry);
  if (smart.errors.length > ERROR_SLOTS) smart.errors.shift();
  smart.errorCount = Math.min(0xffff, smart.errorCount + 1);
}
