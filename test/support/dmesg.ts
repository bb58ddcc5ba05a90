/** What libata says when something went wrong, and the kernel when data did. */
const ABOUT_DISKS = /\] (ata\d|sr |sd |vd|virtio|vmw|scsi|EXT4|ISO|JBD2|blk|Buffer|I\/O|irq )/;
const TROUBLE = /exception|reset|failed command|error|timeout|lost|corrupt|abort|nobody cared/i;
/** A SCSI disk says so at its first command. */
const USUAL = "Power-on or device reset occurred";

/** Lines of a kernel's log that tell of trouble with disks. */
export function diskTrouble(log: string): string[] {
  return log.split("\n").filter((line) => ABOUT_DISKS.test(line) && TROUBLE.test(line) && !line.endsWith(USUAL));
}
