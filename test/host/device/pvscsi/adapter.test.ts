import { describe, expect, test } from "vitest";
import {
  HostStatus,
  PvscsiCommand,
  PvscsiCommandStatus,
  PvscsiConfigPage,
  PvscsiControllerPage,
  PvscsiInterrupt,
  PvscsiMessageType,
  PvscsiRegister,
  PvscsiRings,
  PvscsiSetupRings,
} from "../../../../assembly/spec/pvscsi.ts";
import { ScsiOp } from "../../../../assembly/spec/scsi.ts";
import { Op } from "../../../../src/core/block.ts";
import { FakeBlock } from "../../../support/fake-block.ts";
import { AT, IN, LIST, OUT, RawPvscsi, rw10 } from "../../../support/pvscsi.ts";

const SIZE = 1 << 20;
const { Succeeded, Failed, MoreData } = {
  Succeeded: PvscsiCommandStatus.Succeeded,
  Failed: PvscsiCommandStatus.Failed,
  MoreData: PvscsiCommandStatus.MoreData,
};
const READY = [0, 0, 0, 0, 0, 0];
const UNIT_ATTENTION = 6;

function rig(...disks: FakeBlock[]): RawPvscsi {
  const raw = new RawPvscsi(disks.length > 0 ? disks : [new FakeBlock(SIZE)]);
  raw.setUp();
  return raw;
}

test("a filter is a disk as it is, whatever it calls what it lies over", () => {
  class Filter extends FakeBlock {
    readonly block = new FakeBlock(SIZE);
  }
  const filter = new Filter(2 * SIZE);
  const raw = rig(filter);
  raw.settle(0);
  raw.run({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: IN });
  expect([filter.batches, filter.block.batches]).toEqual([1, 0]);
});

describe("the PCI function", () => {
  test("is VMware's, with 32 KiB of memory space", () => {
    const raw = new RawPvscsi([new FakeBlock(SIZE)]);
    const { guest } = raw.machine;
    const read = (register: number) => {
      guest.out(0xcf8, 4, 0x80000800 | register);
      return guest.in(0xcfc, 4);
    };
    expect(read(0)).toBe(0x07c015ad);
    expect(read(8)).toBe(0x01000002);
    guest.out(0xcf8, 4, 0x80000810);
    guest.out(0xcfc, 4, 0xffffffff);
    expect(guest.in(0xcfc, 4)).toBe(0xffff8000);
  });

  test("reaches no memory without bus mastering", () => {
    const raw = rig();
    raw.machine.guest.out(0xcf8, 4, 0x80000804);
    raw.machine.guest.out(0xcfc, 2, 3);
    raw.push({ cdb: READY });
    raw.kick();
    expect(raw.completions()).toEqual([]);
    expect(raw.setUp()).toBe(Failed);
  });

  test("has registers of a word: narrower reads give a part, narrower writes do nothing", () => {
    const raw = rig();
    const { guest } = raw.machine;
    raw.write(PvscsiRegister.InterruptMask, 0xffffffff);
    expect(raw.read(PvscsiRegister.InterruptMask)).toBe(15);
    guest.store(0xf2000000 + PvscsiRegister.InterruptMask, 1, 0);
    expect(guest.load(0xf2000000 + PvscsiRegister.InterruptMask, 1)).toBe(15);
    expect(guest.load(0xf2000000 + PvscsiRegister.InterruptMask + 2, 2)).toBe(0);
    for (const nothing of [0, 4, 12, 0x100, 0x3014, 0x4018, 0x7ffc]) expect(raw.read(nothing)).toBe(0);
  });
});

describe("the command register", () => {
  test("takes a descriptor word by word, and says that more is wanted", () => {
    const raw = new RawPvscsi([new FakeBlock(SIZE)]);
    raw.write(PvscsiRegister.Command, PvscsiCommand.ResetDevice);
    expect(raw.read(PvscsiRegister.CommandStatus)).toBe(MoreData);
    for (const word of [0, 0]) raw.write(PvscsiRegister.CommandData, word);
    expect(raw.read(PvscsiRegister.CommandStatus)).toBe(MoreData);
    raw.write(PvscsiRegister.CommandData, 0);
    expect(raw.read(PvscsiRegister.CommandStatus)).toBe(Succeeded);
    // A command in the middle of another forgets it; words that nobody waits for are nothing.
    raw.write(PvscsiRegister.Command, PvscsiCommand.SetupRings);
    expect(raw.command(PvscsiCommand.AdapterReset, [1, 2, 3])).toBe(Succeeded);
  });

  test("fails what is not public or not there", () => {
    const raw = rig();
    for (const command of [
      0,
      PvscsiCommand.IssueScsi,
      PvscsiCommand.DeviceUnplug,
      PvscsiCommand.SetupRequestThreshold,
      11,
      0xffffffff,
    ])
      expect(raw.command(command)).toBe(Failed);
    expect(raw.command(PvscsiCommand.ResetDevice, [7, 0, 0])).toBe(Failed);
  });

  test("SETUP_RINGS writes the state page and refuses what cannot be", () => {
    const raw = rig();
    expect(raw.setUp(32, 8)).toBe(Succeeded);
    const field = (at: number) => raw.word(AT.state + at);
    expect([field(0), field(4), field(8)]).toEqual([0, 0, 10]);
    expect([field(12), field(16), field(20)]).toEqual([0, 0, 10]);
    for (const [requests, completions] of [
      [0, 1],
      [1, 0],
      [3, 1],
      [1, 33],
      [64, 1],
      [0xffffffff, 1],
    ])
      expect(raw.setUp(requests, completions)).toBe(Failed);
    const words = new Array(PvscsiSetupRings.Size / 4).fill(0);
    words[0] = words[1] = 1;
    for (const [at, value] of [
      [PvscsiSetupRings.State, 1024],
      [PvscsiSetupRings.State + 4, 1],
      [PvscsiSetupRings.Requests, 0xffffffff],
      [PvscsiSetupRings.Completions + 4, 0xffffffff],
    ]) {
      const wrong = [...words];
      wrong[at / 4] = value;
      expect(raw.command(PvscsiCommand.SetupRings, wrong)).toBe(Failed);
    }
    raw.push({ cdb: READY });
    raw.kick();
    expect(raw.completions()).toEqual([]);
  });

  test("SETUP_MSG_RING says its descriptor's words when asked whether it is there, and needs rings", () => {
    const raw = new RawPvscsi([new FakeBlock(SIZE)]);
    raw.write(PvscsiRegister.Command, PvscsiCommand.SetupMessageRing);
    expect(raw.read(PvscsiRegister.CommandStatus)).toBe(34);
    expect(raw.setUpMessages()).toBe(Failed);
    raw.setUp();
    expect(raw.setUpMessages(3)).toBe(Failed);
    expect(raw.setUpMessages(16)).toBe(34);
    expect(raw.word(AT.state + PvscsiRings.MessageEntriesLog2)).toBe(9);
  });

  test("CONFIG gives the controller page, and nothing else", () => {
    const raw = rig();
    const config = (address: number, pageAddress: number, page: number) =>
      raw.command(PvscsiCommand.Config, [address, 0, 0, pageAddress, page, 0]);
    const Controller = PvscsiConfigPage.Controller;
    const ControllerAddress = PvscsiConfigPage.ControllerAddress;
    raw.bytes(AT.data, 512).fill(0xff);
    expect(config(AT.data, ControllerAddress, Controller)).toBe(Succeeded);
    const at = (offset: number) => raw.word(AT.data + offset);
    expect(at(0)).toBe(Controller);
    expect(at(PvscsiControllerPage.Words)).toBe(120);
    expect(at(PvscsiControllerPage.ScsiStatus) & 0xffff).toBe(0);
    expect(at(PvscsiControllerPage.Phys)).toBe(16);
    expect(raw.bytes(AT.data + 480, 32).every((byte) => byte === 0xff)).toBe(true);
    expect(config(AT.data, ControllerAddress, 0x1959)).toBe(Failed);
    expect(config(AT.data, 0x2121, Controller)).toBe(Failed);
    expect(config((4 << 20) - 479, ControllerAddress, Controller)).toBe(Failed);
    expect(config(0xffffffff, ControllerAddress, Controller)).toBe(Failed);
  });
});

describe("interrupts", () => {
  test("are what is both raised and let through, until acknowledged", () => {
    const raw = rig();
    raw.write(PvscsiRegister.InterruptMask, 0);
    raw.run({ cdb: READY });
    expect([raw.line, raw.read(PvscsiRegister.InterruptStatus)]).toEqual([false, PvscsiInterrupt.Completion]);
    raw.write(PvscsiRegister.InterruptMask, 1);
    expect(raw.line).toBe(true);
    raw.write(PvscsiRegister.InterruptStatus, 0xe);
    expect(raw.line).toBe(true);
    raw.write(PvscsiRegister.InterruptStatus, 1);
    expect([raw.line, raw.read(PvscsiRegister.InterruptStatus)]).toEqual([false, 0]);
  });

  test("a machine reset takes all back: registers, rings, line", () => {
    const raw = rig();
    raw.run({ cdb: READY });
    raw.machine.reset();
    expect([raw.line, raw.read(PvscsiRegister.InterruptStatus), raw.read(PvscsiRegister.InterruptMask)]).toEqual([
      false,
      0,
      0,
    ]);
    raw.push({ cdb: READY });
    raw.kick();
    expect(raw.completions()).toEqual([]);
  });
});

describe("requests", () => {
  test("for nobody time out at selection: no such target, another bus", () => {
    const raw = rig();
    expect(raw.run({ cdb: READY, target: 1 }).host).toBe(HostStatus.SelectionTimeout);
    expect(raw.run({ cdb: READY, target: 255 }).host).toBe(HostStatus.SelectionTimeout);
    expect(raw.run({ cdb: READY, bus: 1 }).host).toBe(HostStatus.SelectionTimeout);
  });

  test("for another logical unit: INQUIRY says there is none, REPORT LUNS lists them, the rest is refused", () => {
    const raw = rig();
    const lun = [0, 1];
    expect(raw.run({ cdb: [ScsiOp.Inquiry, 0, 0, 0, 36, 0], lun })).toMatchObject({ status: 0, bytes: 36 });
    expect(raw.bytes(AT.data, 1)[0]).toBe(0x7f);
    const luns = [ScsiOp.ReportLuns, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0];
    expect(raw.run({ cdb: luns, lun })).toMatchObject({ status: 0, bytes: 16 });
    expect(raw.run({ cdb: [ScsiOp.RequestSense, 0, 0, 0, 18, 0], lun })).toMatchObject({ status: 0, bytes: 18 });
    expect([raw.bytes(AT.data, 13)[2], raw.bytes(AT.data, 13)[12]]).toEqual([5, 0x25]);
    const { status, sense } = raw.run({ cdb: READY, lun });
    expect([status, sense[2], sense[12]]).toEqual([2, 5, 0x25]);
  });

  test("whose data would go the other way are told so, and nothing is done", () => {
    const disk = new FakeBlock(SIZE);
    const raw = rig(disk);
    raw.settle(0);
    expect(raw.run({ cdb: rw10(ScsiOp.Read10, 0, 8), flags: OUT }).host).toBe(HostStatus.BadMessage);
    expect(raw.run({ cdb: rw10(ScsiOp.Write10, 0, 8), flags: IN }).host).toBe(HostStatus.BadMessage);
    expect(raw.run({ cdb: [ScsiOp.Inquiry, 0, 0, 0, 36, 0], flags: OUT }).host).toBe(HostStatus.BadMessage);
    expect(raw.run({ cdb: [ScsiOp.Unmap, 0, 0, 0, 0, 0, 0, 0, 24, 0], flags: IN }).host).toBe(HostStatus.BadMessage);
    expect(disk.asked).toEqual([]);
  });

  test("with too little room overrun: sectors not at all, answers as far as there is room", () => {
    const disk = new FakeBlock(SIZE);
    const raw = rig(disk);
    raw.settle(0);
    expect(raw.run({ cdb: rw10(ScsiOp.Read10, 0, 8), length: 4095 })).toMatchObject({
      host: HostStatus.DataRun,
      status: 0,
      bytes: 0,
    });
    expect(raw.run({ cdb: rw10(ScsiOp.Write10, 0, 8), length: 0 }).host).toBe(HostStatus.DataRun);
    expect(raw.run({ cdb: [ScsiOp.Inquiry, 0, 0, 0, 96, 0], length: 7 })).toMatchObject({
      host: HostStatus.DataRun,
      bytes: 7,
    });
    expect(raw.run({ cdb: [ScsiOp.Inquiry, 0, 0, 0, 36, 0], length: 500 })).toMatchObject({
      host: HostStatus.Success,
      bytes: 36,
    });
    expect(disk.asked).toEqual([]);
  });

  test("scatter and gather: lists, chains, empty elements, more room than is needed", () => {
    const disk = new FakeBlock(SIZE);
    for (let i = 0; i < SIZE; i++) disk.bytes[i] = (i * 7 + (i >>> 9)) & 255;
    const raw = rig(disk);
    raw.settle(0);
    const { data } = AT;
    const second = raw.list([[data + 9000, 5000]], AT.lists + 4096);
    const address = raw.list([
      [data, 100],
      [data + 5, 0],
      [data + 200, 1],
      [second, 77, 1],
    ]);
    raw.bytes(data, 16384).fill(0);
    expect(raw.run({ cdb: rw10(ScsiOp.Read10, 3, 2), flags: IN | LIST, address, length: 5101 })).toMatchObject({
      host: 0,
      status: 0,
      bytes: 1024,
    });
    const got = Buffer.concat([raw.bytes(data, 100), raw.bytes(data + 200, 1), raw.bytes(data + 9000, 923)]);
    expect(got).toEqual(Buffer.from(disk.bytes.subarray(1536, 2560)));
    expect(raw.bytes(data + 100, 100).every((byte) => byte === 0)).toBe(true);
    expect(raw.run({ cdb: rw10(ScsiOp.Write10, 100, 2), flags: OUT | LIST, address, length: 1024 }).bytes).toBe(1024);
    expect(disk.bytes.subarray(51200, 52224)).toEqual(disk.bytes.subarray(1536, 2560));
  });

  test("that make no sense are refused by the adapter", () => {
    const raw = rig();
    raw.settle(0);
    const host = (request: Partial<Parameters<RawPvscsi["push"]>[0]>) =>
      raw.run({ cdb: rw10(ScsiOp.Read10, 0, 8), ...request }).host;
    const wrong = HostStatus.InvalidParameter;
    expect(host({ address: 0xfffff000 })).toBe(wrong);
    expect(host({ high: 1 })).toBe(wrong);
    expect(host({ address: (4 << 20) - 4095 })).toBe(wrong);
    expect(host({ cdbLength: 0 })).toBe(wrong);
    expect(host({ cdbLength: 17 })).toBe(wrong);
    expect(host({ flags: 2 })).toBe(wrong);
    // Lists: outside RAM, an element outside RAM, in a circle, empty without end, ended by the end of RAM.
    expect(host({ flags: LIST, address: 0x7ffffff0 })).toBe(wrong);
    expect(host({ flags: LIST, address: raw.list([[0x7ffffff0, 4096]]) })).toBe(wrong);
    expect(host({ flags: LIST, address: raw.list([[AT.lists, 0, 1]]) })).toBe(wrong);
    raw.bytes(AT.lists, 65536).fill(0);
    expect(host({ flags: LIST, address: AT.lists })).toBe(wrong);
    expect(host({ flags: LIST, address: raw.list([[AT.data, 16]], (4 << 20) - 16) })).toBe(wrong);
    expect(host({})).toBe(0);
  });

  test("may have any data length: what is not needed is not looked at", () => {
    const raw = rig();
    raw.settle(0);
    expect(
      raw.run({
        cdb: rw10(ScsiOp.Read10, 0, 8),
        length: 2n ** 64n - 1n,
        flags: LIST,
        address: raw.list([[AT.data, 0xffffffff]]),
      }).host,
    ).toBe(HostStatus.InvalidParameter);
    // TEST UNIT READY with a buffer that is not there is a bad descriptor, too.
    expect(raw.run({ cdb: READY, address: 0x7fffffff, length: 1 }).host).toBe(HostStatus.InvalidParameter);
    expect(raw.run({ cdb: READY, address: 0x7fffffff, length: 0 }).host).toBe(0);
  });

  test("leave sense where there is room for it, cut to that", () => {
    const raw = rig();
    const sense = (request: object) => raw.run({ cdb: READY, ...request }).sense.length;
    raw.bytes(AT.sense, 64).fill(0xee);
    expect(sense({ senseLength: 8 })).toBe(8);
    expect(raw.bytes(AT.sense, 9)).toEqual(Uint8Array.of(0x70, 0, UNIT_ATTENTION, 0, 0, 0, 0, 10, 0xee));
    for (const none of [{ senseLength: 0 }, { sense: 0xfffffff0 }]) {
      raw.machine.reset();
      raw.setUp();
      expect(sense(none)).toBe(0);
    }
  });

  test("go on over the end of the indices, which run free", () => {
    const raw = rig();
    for (let i = 0; i < 300; i++) expect(raw.run({ cdb: READY }).context).toBe(i + 1);
    expect(raw.word(AT.state + PvscsiRings.RequestConsumer)).toBe(300);
    expect(raw.word(AT.state + PvscsiRings.CompletionProducer)).toBe(300);
  });

  test("a producer that promises more than the ring holds brings nothing", () => {
    const raw = rig();
    raw.word(AT.state + PvscsiRings.RequestProducer, 33);
    raw.kick();
    raw.word(AT.state + PvscsiRings.RequestProducer, 0xffffffff);
    raw.kick();
    expect(raw.completions()).toEqual([]);
    expect(raw.word(AT.state + PvscsiRings.RequestConsumer)).toBe(0);
    raw.word(AT.state + PvscsiRings.RequestProducer, 0);
    expect(raw.run({ cdb: READY }).host).toBe(0);
  });

  test("no more are in flight than the ring has entries; the others wait for them", async () => {
    const disk = new FakeBlock(SIZE, { manual: true });
    const raw = rig(disk);
    raw.settle(0);
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 32; i++) raw.push({ cdb: rw10(ScsiOp.Read10, 0, 8) });
      raw.kick();
    }
    expect(disk.asked.length).toBe(32);
    await disk.release();
    expect(disk.asked.length).toBe(64);
    await disk.release();
    expect(raw.completions().length).toBe(64);
  });
});

describe("resets and aborts", () => {
  async function waiting() {
    const disk = new FakeBlock(SIZE, { manual: true });
    const raw = rig(disk);
    raw.settle(0);
    const context = raw.push({ cdb: rw10(ScsiOp.Write10, 0, 8) });
    raw.kick();
    return { disk, raw, context };
  }

  test("an aborted command ends as that, once the disk is through with it", async () => {
    const { disk, raw, context } = await waiting();
    expect(raw.command(PvscsiCommand.AbortCommand, [context, 0, 0, 0])).toBe(Succeeded);
    expect(raw.command(PvscsiCommand.AbortCommand, [77, 0, 0, 0])).toBe(Succeeded);
    expect(raw.completions()).toEqual([]);
    await disk.release();
    expect(raw.completions()).toMatchObject([{ context, host: HostStatus.Aborted }]);
  });

  test.each([
    ["the bus", PvscsiCommand.ResetBus, [], 2],
    ["a device", PvscsiCommand.ResetDevice, [0, 0, 0], 3],
  ] as const)(
    "a reset of %s ends what is under way; what comes after waits for that",
    async (_, command, words, asc) => {
      const { disk, raw, context } = await waiting();
      expect(raw.command(command, words)).toBe(Succeeded);
      const after = raw.push({ cdb: READY });
      raw.kick();
      expect(raw.completions()).toEqual([]);
      await disk.release();
      const [first, second] = raw.completions();
      expect([first.context, first.host]).toEqual([context, HostStatus.BusReset]);
      expect([second.context, second.status]).toEqual([after, 2]);
      expect([second.sense[2], second.sense[12], second.sense[13]]).toEqual([UNIT_ATTENTION, 0x29, asc]);
    },
  );

  test("after an adapter reset nothing more is written, and new rings wait for the old writes", async () => {
    const { disk, raw } = await waiting();
    const page = raw.bytes(AT.completions, 4096).slice();
    expect(raw.command(PvscsiCommand.AdapterReset)).toBe(Succeeded);
    raw.setUp();
    raw.push({ cdb: READY });
    const write = raw.push({ cdb: rw10(ScsiOp.Write10, 0, 8) });
    raw.kick();
    expect(disk.asked.length).toBe(1);
    expect(raw.bytes(AT.completions, 4096)).toEqual(page);
    await disk.release();
    expect(disk.asked.length).toBe(2);
    await disk.release();
    expect(raw.completions().map(({ context, host }) => [context, host])).toEqual([
      [write - 1, 0],
      [write, 0],
    ]);
  });

  test("closing waits for the disk, and says nothing more", async () => {
    const { disk, raw } = await waiting();
    const closing = raw.device.close();
    expect(closing).toBeInstanceOf(Promise);
    await disk.release();
    await closing;
    expect(raw.completions()).toEqual([]);
    expect(raw.read(PvscsiRegister.InterruptMask)).toBe(0xffffffff);
  });
});

describe("disks that come and go", () => {
  test("are announced on the message ring, as far as there is room", async () => {
    const raw = rig();
    raw.setUpMessages();
    raw.device.plug(5, new FakeBlock(SIZE));
    expect([raw.line, raw.read(PvscsiRegister.InterruptStatus)]).toEqual([true, PvscsiInterrupt.Message]);
    expect(raw.message(0)).toEqual([PvscsiMessageType.Added, 5]);
    expect(raw.run({ cdb: READY, target: 5 }).host).toBe(0);
    await raw.device.unplug(5);
    expect(raw.message(1)).toEqual([PvscsiMessageType.Removed, 5]);
    expect(raw.run({ cdb: READY, target: 5 }).host).toBe(HostStatus.SelectionTimeout);
    for (let i = 0; i < 20; i++) {
      raw.device.plug(7, new FakeBlock(SIZE));
      await raw.device.unplug(7);
    }
    expect(raw.word(AT.state + PvscsiRings.MessageProducer)).toBe(32);
    expect(() => raw.device.plug(0, new FakeBlock(SIZE))).toThrow("target 0 has a disk already");
    expect(() => raw.device.plug(64, new FakeBlock(SIZE))).toThrow("there is no target 64");
    expect(() => raw.device.unplug(9)).toThrow("target 9 has no disk");
  });

  test("a disk that grows says so once", () => {
    const raw = rig();
    raw.settle(0);
    raw.device.resized(0);
    const { sense } = raw.run({ cdb: READY });
    expect([sense[2], sense[12], sense[13]]).toEqual([UNIT_ATTENTION, 0x2a, 9]);
    expect(raw.run({ cdb: READY }).status).toBe(0);
  });
});

test("a block that is closed under the guest is a hardware error", () => {
  const disk = new FakeBlock(SIZE);
  const raw = rig(disk);
  raw.settle(0);
  disk.closed = true;
  const { status, sense } = raw.run({ cdb: rw10(ScsiOp.Read10, 0, 8) });
  expect([status, sense[2], sense[12]]).toEqual([2, 4, 0x44]);
});

test("FUA and SYNCHRONIZE CACHE reach the block as flushes", () => {
  const disk = new FakeBlock(SIZE);
  const raw = rig(disk);
  raw.settle(0);
  raw.run({ cdb: rw10(ScsiOp.Write10, 0, 8, 8) });
  raw.run({ cdb: rw10(ScsiOp.Read10, 0, 8, 8) });
  raw.run({ cdb: rw10(ScsiOp.SynchronizeCache10, 0, 0) });
  expect(disk.asked.map(({ op }) => op)).toEqual([Op.Write, Op.Flush, Op.Read, Op.Flush]);
});
