import { expect, test } from "vitest";
import { Hypervisor } from "../../../src/hypervisor/hypervisor.ts";
import { EventChannels, PORTS } from "../../../src/hypervisor/xen/event-channel.ts";

const MIB = 1 << 20;

test("a port is bound by the domain it was offered to, once", () => {
  const channels = new EventChannels();
  const port = channels.allocUnbound(1, 0);
  for (const bind of [
    () => channels.bindInterdomain(2, 1, port),
    () => channels.bindInterdomain(0, 1, port + 1),
    () => channels.bindInterdomain(0, 1, 0),
    () => channels.bindInterdomain(0, 9, port),
    () => channels.bindInterdomain(0, 1, -1),
  ]) {
    expect(bind).toThrow(expect.objectContaining({ code: "INVALID" }));
  }
  channels.bindInterdomain(0, 1, port);
  expect(() => channels.bindInterdomain(0, 1, port)).toThrow(expect.objectContaining({ code: "INVALID" }));
});

test("events go to the other end, until either end closes", () => {
  const channels = new EventChannels();
  const got: string[] = [];
  channels.connect(0, (port) => got.push(`host ${port}`));
  channels.connect(1, (port) => got.push(`guest ${port}`));
  const port = channels.allocUnbound(1, 0);
  expect(channels.send(1, port)).toBe(false);
  const host = channels.bindInterdomain(0, 1, port);
  expect([channels.send(1, port), channels.send(0, host)]).toEqual([true, true]);
  expect(got).toEqual([`host ${host}`, `guest ${port}`]);
  channels.close(0, host);
  channels.close(0, host);
  expect(channels.send(1, port)).toBe(false);
  expect(channels.bindInterdomain(0, 1, port)).toBe(host); // free again, both of them
  channels.reset(1);
  expect(channels.send(0, host)).toBe(false);
});

test("a domain's ports are limited", () => {
  const channels = new EventChannels();
  for (let i = 1; i < PORTS; i++) channels.allocUnbound(1, 0);
  expect(() => channels.allocUnbound(1, 0)).toThrow(expect.objectContaining({ code: "NO_SPACE" }));
  channels.close(1, 500);
  expect(channels.allocUnbound(1, 0)).toBe(500);
});

test("a guest's send is one exit, and the host's handler has run when it returns", () => {
  const hypervisor = new Hypervisor();
  const machine = hypervisor.createMachine({ memory: 4 * MIB });
  const guest = hypervisor.xenGuest(machine);
  const order: string[] = [];
  const port = guest.events.allocUnbound(0, () => order.push("upcall"));
  const host = hypervisor.bindHostPort(machine.domain, port, () => {
    order.push("host");
    for (let i = 0; i < 3; i++) hypervisor.eventChannels.send(0, host);
    order.push("host done");
  });
  const [exits, interrupts] = [machine.exits.hypercalls, machine.interruptsDelivered];
  guest.events.send(port);
  expect(order).toEqual(["host", "host done", "upcall"]); // three events, one upcall, after the host
  expect([machine.exits.hypercalls - exits, machine.interruptsDelivered - interrupts]).toEqual([1, 1]);
  hypervisor.closeHostPort(host);
  guest.events.send(port);
  expect(order.length).toBe(3);
});

test("several ports of several guests do not mix", () => {
  const hypervisor = new Hypervisor();
  const got: string[] = [];
  const hosts = [1, 2].map((domain) => {
    const guest = hypervisor.xenGuest(hypervisor.createMachine({ memory: 4 * MIB }));
    return Array.from({ length: 40 }, (_, i) => {
      const port = guest.events.allocUnbound(0, () => got.push(`${domain}:${i}`));
      return hypervisor.bindHostPort(domain, port, () => {});
    });
  });
  hypervisor.eventChannels.send(0, hosts[1][39]);
  hypervisor.eventChannels.send(0, hosts[0][0]);
  hypervisor.eventChannels.send(0, hosts[1][31]);
  expect(got).toEqual(["2:39", "1:0", "2:31"]);
});
