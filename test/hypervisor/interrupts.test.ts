import { expect, test } from "vitest";
import { InterruptController } from "../../src/hypervisor/interrupts.ts";
import { LabMachine } from "../../src/hypervisor/machine.ts";

test("sources on one line are ORed, and a handler runs until the line falls", () => {
  const controller = new InterruptController();
  const a = controller.source(5);
  const b = controller.source(5);
  const seen: string[] = [];
  controller.handle(5, () => {
    if (seen.length === 0) a.set(false);
    else b.set(false);
    seen.push("irq");
  });
  controller.hold();
  a.set(true);
  b.set(true);
  expect(seen).toEqual([]);
  controller.unhold();
  expect(seen).toEqual(["irq", "irq"]);
  expect(controller.delivered).toBe(2);
  expect(controller.level(5)).toBe(false);
});

test("an interrupt raised inside a handler waits for it to return", () => {
  const controller = new InterruptController();
  const first = controller.source(3);
  const second = controller.source(4);
  const order: string[] = [];
  controller.handle(3, () => {
    first.set(false);
    second.set(true);
    order.push("first done");
  });
  controller.handle(4, () => {
    second.set(false);
    order.push("second");
  });
  first.set(true);
  expect(order).toEqual(["first done", "second"]);
});

test("a line asserted before anybody listens is delivered when somebody does", () => {
  const controller = new InterruptController();
  const source = controller.source(14);
  source.set(true);
  let calls = 0;
  controller.handle(14, () => {
    calls++;
    source.set(false);
  });
  expect(calls).toBe(1);
});

test("a storm masks the line instead of hanging the host", () => {
  const controller = new InterruptController();
  let calls = 0;
  controller.handle(9, () => calls++);
  controller.source(9).set(true);
  expect(calls).toBe(10_000);
});

test("a device that raises inside a trap interrupts the guest only after the trap", () => {
  const machine = new LabMachine({ memory: 1 << 20 });
  const line = machine.interrupt(14);
  const order: string[] = [];
  machine.ports.register(0x1f0, 8, {
    readPort: () => 0,
    writePort: () => {
      line.set(true);
      order.push("device done");
    },
  });
  machine.guest.onInterrupt(14, () => {
    line.set(false);
    order.push("handler");
  });
  machine.guest.out(0x1f7, 1, 0xec);
  order.push("next instruction");
  expect(order).toEqual(["device done", "handler", "next instruction"]);
});
