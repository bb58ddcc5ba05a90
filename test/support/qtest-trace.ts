/** What a step left behind, on either side. */
export interface Trace {
  /** What `in` and `drain` read. */
  values: number[];
  /** By `SNAPSHOT`, then the level of the interrupt line. */
  registers: number[];
  /** Memory that DMA may have changed: regions of [address, bytes]. */
  memory: { address: number; bytes: Uint8Array }[];
  /** Of a `block`: how often the data port was read. */
  times?: number;
  /** Where a DMA may have begun: does its table, or what it names, leave the memory that both machines have? */
  outside?: boolean;
}

/** Registers compared after every step, with their widths: those that can be read without a side effect. */
export const SNAPSHOT: readonly (readonly [register: number, width: 1 | 4, name: string])[] = [
  [8, 1, "AltStatus"],
  [1, 1, "Error"],
  [2, 1, "Count"],
  [3, 1, "LbaLow"],
  [4, 1, "LbaMid"],
  [5, 1, "LbaHigh"],
  [6, 1, "Device"],
  [16, 1, "BmCommand"],
  [18, 1, "BmStatus"],
  [20, 4, "BmTable"],
];

/** Where a register of channel 0 or 1 stands in port space, the bus master at C000h. */
export function portOf(channel: number, register: number): number {
  if (register >= 16) return 0xc000 + channel * 8 + register - 16;
  const command = channel === 0 ? 0x1f0 : 0x170;
  return register === 8 ? command + 0x206 : command + register;
}
