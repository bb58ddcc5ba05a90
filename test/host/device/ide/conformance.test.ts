// docs/ide-conformance.md: every command code on each of our devices, beside what the peers do. Written by this test
// (`npx vitest run test/host/device/ide/conformance.test.ts --update` after a change); it fails when the file is stale.
import { expect, test } from "vitest";
import { AtaRegister, AtaStatus } from "../../../../assembly/spec/ata.ts";
import type { IdeDrive } from "../../../../src/host/device/ide/controller.ts";
import { cdFromBlock } from "../../../../src/host/media/image.ts";
import { CdBench, cdb } from "../../../support/cd.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { IdeBench } from "../../../support/ide.ts";
import { PACKET_PEERS, PEERS } from "../../../support/ide-peers.ts";
import { CD_KNOWN } from "../../../support/qtest-cd-known.ts";
import { IDENTIFY_PACKET, looseWords } from "../../../support/qtest-cd-words.ts";
import { KNOWN } from "../../../support/qtest-known.ts";
import { IDENTIFY, SELF_TESTS, SMART_DATA, SMART_THRESHOLDS } from "../../../support/qtest-words.ts";
import { SparseBlock } from "../../../support/sparse-block.ts";

const hex = (value: number) => `${value.toString(16).toUpperCase().padStart(2, "0")}h`;

const cd = () => ({ cd: cdFromBlock(new FakeBlock(300 * 2048)) });
const DEVICES: Record<string, () => IdeDrive> = {
  disk: () => new SparseBlock(64 << 20),
  CompactFlash: () => ({ block: new SparseBlock(64 << 20), kind: "compact-flash" }),
  CD: cd,
};

/** What a device says to a command: the Status register, and Error when it says so; one sector at LBA 1. */
function answer(device: IdeDrive, code: number): string {
  const ide = new IdeBench([[device]]);
  ide.write(AtaRegister.Device, 0xe0);
  // SET MAX and SECURITY ERASE UNIT are heard right after another command.
  const before: Record<number, number> = { 55: 0x27, 249: 0xf8, 244: 0xf3 };
  if (before[code] !== undefined) ide.write(AtaRegister.Command, before[code]);
  // TRIM, WRITE UNCORRECTABLE for good, SMART READ DATA, DCO IDENTIFY, metadata inquiry, SET TRANSFER MODE, sense.
  const features: Record<number, number> = { 6: 1, 69: 0x55, 176: 0xd0, 177: 0xc2, 184: 2, 239: 3, 240: 1 };
  // Logs: the directory to read, the host's own to write.
  const low: Record<number, number> = { 47: 0, 71: 0, 63: 0x80, 87: 0x80 };
  ide.write(AtaRegister.Features, features[code] ?? 0);
  ide.write(AtaRegister.Count, code === 0x91 ? 63 : 0);
  ide.write(AtaRegister.Count, code === 0x91 ? 63 : 1);
  for (const high of [true, false]) {
    ide.write(AtaRegister.LbaLow, high ? 0 : (low[code] ?? 1));
    ide.write(AtaRegister.LbaMid, high ? 0 : code === 0xb0 ? 0x4f : 0);
    ide.write(AtaRegister.LbaHigh, high ? 0 : code === 0xb0 ? 0xc2 : 0);
  }
  ide.write(AtaRegister.Command, code);
  const status = ide.altStatus;
  return status & AtaStatus.Error ? `${hex(status)}, error ${hex(ide.error)}` : hex(status);
}

const ABORTED = "41h, error 04h";
const cell = (text: string) => (text === ABORTED ? "abort" : text);

function ataTable(): string[] {
  const names = Object.keys(DEVICES);
  const rows = [`| Code | Command | ${names.join(" | ")} | QEMU | VirtualBox | v86 |`, `|---|---|${"---|".repeat(6)}`];
  for (let code = 0; code < 256; code++) {
    const ours = names.map((name) => answer(DEVICES[name](), code));
    const peer = PEERS.find((row) => row[0] === code);
    if (peer === undefined) {
      // What nobody knows is refused by everybody.
      expect(ours, `${hex(code)} is in no column of the table`).toEqual([ABORTED, ABORTED, ABORTED]);
      continue;
    }
    rows.push(`| ${[hex(code), peer[1], ...ours.map(cell), ...peer.slice(2)].join(" | ")} |`);
  }
  return rows;
}

/** Key and code of a packet command with an allocation length and one sector, nothing else set; or "good". */
function packetAnswer(code: number): string {
  const ide = new CdBench([[cd()]]);
  // The unit attention of power-on.
  for (let i = 0; i < 3; i++) ide.pio(cdb(0));
  const packet = cdb(code, 0, 0, 0, code === 0x1b ? 1 : 0, 0, 0, 0, 8);
  if (code === 0x03 || code === 0x12 || code === 0x1a) packet[4] = 18;
  if (code === 0x1e || code === 0x55) packet[8] = 0;
  if (code === 0x4a) packet.set([1, 0, 0, 0x10], 1);
  if (code === 0x1a || code === 0x5a) packet[2] = 0x2a;
  if (code === 0xa8) packet.set([0, 1], 8);
  if (code === 0x28) packet[8] = 1;
  if (code === 0xbe) packet.set([1, 0x10], 8);
  if (code === 0xb9) packet.set([0, 2, 0, 0, 2, 1, 0x10], 3);
  if (code === 0xad) packet.set([8], 9);
  if (code === 0xa4) packet.set([0, 8, 8], 8);
  ide.pio(packet);
  if ((ide.last.status & AtaStatus.Error) === 0) return "good";
  const { bytes } = ide.pio(cdb(0x03, 0, 0, 0, 18));
  return `${(bytes[2] & 15).toString(16)}/${hex(bytes[12]).slice(0, 2)}`;
}

function packetTable(): string[] {
  const rows = ["| Code | Command | ours | QEMU | VirtualBox | v86 |", `|---|---|${"---|".repeat(4)}`];
  for (const row of PACKET_PEERS)
    rows.push(`| ${[hex(row[0]), row[1], packetAnswer(row[0]), ...row.slice(2)].join(" | ")} |`);
  return rows;
}

/** Packets whose data differ. */
const PACKETS: [name: string, bytes: number[]][] = [
  ["REQUEST SENSE", [0x03]],
  ["READ TOC, format 0", [0x43]],
  ["READ TOC, format 1", [0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0x40]],
  ["READ TOC, format 2", [0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]],
  ["GET EVENT STATUS NOTIFICATION", [0x4a]],
  ["READ DISC INFORMATION", [0x51]],
  ["MODE SENSE (10), page 01h", [0x5a, 0, 1]],
  ["MODE SENSE (10), page 0Eh", [0x5a, 0, 0x0e]],
  ["MODE SENSE (10), page 2Ah", [0x5a, 0, 0x2a]],
  ["MECHANISM STATUS", [0xbd]],
];

/** A row for each reason. */
function wordRows(command: string, words: ReadonlyMap<number, string>): string[] {
  const reasons = [...new Set(words.values())];
  const of = (why: string) => [...words].flatMap(([word, reason]) => (reason === why ? [word] : []));
  return reasons.map((why) => `| ${command} | ${of(why).join(" ")} | ${why} |`);
}

test("the conformance table is what the controller does", async () => {
  const text = [
    "# IDE and ATAPI, command by command",
    "",
    "Written by `test/host/device/ide/conformance.test.ts` from what the controller answers; a change of it makes that test fail.",
    "",
    "Our columns: the Status register after the command, one sector at LBA 1; 50h has ended well, 58h wants data moved, 41h is an",
    "error; `abort` is 41h with Error 04h. QEMU's column names the devices that know the command; in the others `y` does the",
    "work, `n` succeeds and does nothing, `a` is named and aborts, `-` is not known. Codes in no row abort everywhere.",
    "",
    "## ATA commands",
    "",
    ...ataTable(),
    "",
    "## Packet commands",
    "",
    "Ours: `good`, or sense key and code of a bare command: 5/24 knows the command and refuses its fields, 5/64 is a mode that",
    "the disc's tracks do not have.",
    "",
    ...packetTable(),
    "",
    "## QEMU's own cases",
    "",
    "Each case of QEMU's that is about the drive is a test of the same name: `npx vitest run test/host/device/ide -t /ide/bmdma/trim`.",
    "",
    "| `tests/qtest` of QEMU | Here, in `test/host/device/ide` |",
    "|---|---|",
    "| `ide-test.c`: /ide/… | `qemu-ide-test.test.ts`: all of them |",
    "| `ahci-test.c`: /ahci/… | `ahci-test.test.ts`: but for the host adapter's own and NCQ |",
    "| `hd-geo-test.c`: hd-geo/ide/… | `hd-geo-test.test.ts`: what IDENTIFY DEVICE tells; the CMOS is the firmware's |",
    "",
    "## Where we differ from QEMU on purpose",
    "",
    "`test/interop/ide-qtest.test.ts` runs random programs on both and accepts these differences, no others.",
    "",
    "| Difference | The specification's verdict (ATA/ATAPI-6 unless named) |",
    "|---|---|",
    ...[...KNOWN, ...CD_KNOWN].map(({ name, verdict }) => `| ${name} | ${verdict} |`),
    "| DSC after power commands | bit 4 of Status is the command's own since ATA-4; ATA-3 has it set, QEMU clears it |",
    "| SRST | §9.2: no interrupt, and Error 01h after the reset wire as well; QEMU's disks interrupt, and leave 00h |",
    "| packet command that waits for the bus master | BSY or DRQ is set meanwhile; QEMU's CD drives set both |",
    "| INQUIRY pages, GET CONFIGURATION, READ CD of raw sectors | pages, features, EDC, ECC and BCD addresses that QEMU has not |",
    "| device 1 selected, and absent | §9.16.1: device 0 answers with its own registers; QEMU keeps a set apart |",
    "",
    "Words of data:",
    "",
    "| Command | Words | Why |",
    "|---|---|---|",
    ...wordRows("IDENTIFY DEVICE", IDENTIFY),
    ...wordRows("IDENTIFY PACKET DEVICE", IDENTIFY_PACKET),
    ...wordRows("SMART READ DATA", SMART_DATA),
    ...wordRows("SMART READ ATTRIBUTE THRESHOLDS", SMART_THRESHOLDS),
    ...wordRows("SMART READ LOG 06h", SELF_TESTS),
    ...PACKETS.flatMap(([name, bytes]) => wordRows(name, looseWords([...cdb(...bytes)], false).words)),
    "",
  ].join("\n");
  await expect(text).toMatchFileSnapshot("../../../../docs/ide-conformance.md");
});
