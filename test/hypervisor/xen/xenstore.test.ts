import { expect, test } from "vitest";
import { XenbusState } from "../../../assembly/spec/xen.ts";
import { Hypervisor } from "../../../src/hypervisor/hypervisor.ts";
import { XenbusEnd } from "../../../src/hypervisor/xen/xenbus.ts";
import { Xenstore } from "../../../src/hypervisor/xen/xenstore.ts";

const MIB = 1 << 20;
const code = (code: string) => expect.objectContaining({ code });

/** A store with the homes of domains 1 and 2. */
function store(): Xenstore {
  const made = new Xenstore();
  for (const id of [1, 2]) {
    made.write(0, `/local/domain/${id}`, "");
    made.setPermissions(0, `/local/domain/${id}`, { owner: id, others: "none" });
  }
  return made;
}

test("a tree of values", () => {
  const xs = store();
  xs.write(0, "/a/b/c", "1");
  expect([xs.read(0, "/a/b/c"), xs.read(0, "/a/b"), xs.directory(0, "/a")]).toEqual(["1", "", ["b"]]);
  xs.remove(0, "/a/b");
  expect(() => xs.read(0, "/a/b/c")).toThrow(code("NOT_FOUND"));
  xs.remove(0, "/a/b");
  xs.remove(0, "/");
  expect(xs.exists("/a")).toBe(true);
});

test("paths and values are checked", () => {
  const xs = store();
  for (const path of ["", "a", "/a/", "//a", "/a b", "/a\0", `/${"x".repeat(4000)}`]) {
    expect(() => xs.write(0, path, "1")).toThrow(code("INVALID"));
  }
  expect(() => xs.write(0, "/a", "x".repeat(4097))).toThrow(code("INVALID"));
  expect(() => xs.watch(0, "a", () => {})).toThrow(code("INVALID"));
});

test("a guest reads and writes its own subtree, and no other's", () => {
  const xs = store();
  const one = xs.as(1);
  one.write("device/vbd/1/state", 3);
  expect(one.read("/local/domain/1/device/vbd/1/state")).toBe("3");
  for (const path of ["/local/domain/2/x", "/local/domain/0/x", "/local/domain/3", "/x", "/local/domain/2"]) {
    expect(() => one.write(path, 1)).toThrow(code("DENIED"));
  }
  expect(() => one.read("/local/domain/2")).toThrow(code("DENIED"));
  expect(one.get("/local/domain/2")).toBeUndefined();
  expect(() => one.remove("/local/domain/2")).toThrow(code("DENIED"));
  expect(() => xs.setPermissions(1, "/local/domain/2", { owner: 1, others: "both" })).toThrow(code("DENIED"));
  expect(() => xs.setPermissions(1, "/local/domain/1", { owner: 2, others: "both" })).toThrow(code("DENIED"));
  expect(xs.read(0, "/local/domain/1/device/vbd/1/state")).toBe("3");
});

test("rights can be given to single domains and are inherited", () => {
  const xs = store();
  xs.write(0, "/local/domain/0/backend", "");
  xs.setPermissions(0, "/local/domain/0/backend", { owner: 0, others: "none", domains: new Map([[1, "read"]]) });
  xs.write(0, "/local/domain/0/backend/key", "v");
  expect(xs.read(1, "/local/domain/0/backend/key")).toBe("v");
  expect(() => xs.write(1, "/local/domain/0/backend/key", "w")).toThrow(code("DENIED"));
  expect(() => xs.read(2, "/local/domain/0/backend/key")).toThrow(code("DENIED"));
});

test("watches see changes at and below their path, what is readable, after the change, in order", () => {
  const xs = store();
  const seen: string[] = [];
  const release = xs.watch(0, "/local/domain/1", (path) => seen.push(path.slice(13)));
  xs.watch(2, "/local/domain", (path) => seen.push(`two ${path}`));
  seen.length = 0;
  xs.write(1, "/local/domain/1/a", "1");
  xs.write(0, "/local/domain/3", "1");
  xs.remove(0, "/local");
  expect(seen).toEqual(["/1/a", "two /local/domain/3", "", "two /local"]);
  release();
  xs.write(0, "/local/domain/1", "1");
  expect(seen.length).toBe(5); // the other watch only
});

test("a change made by a watch is told after the one that caused it", () => {
  const xs = store();
  const seen: string[] = [];
  xs.watch(0, "/a", (path) => {
    if (path === "/a/1") xs.write(0, "/a/2", "");
  });
  xs.watch(0, "/a", (path) => seen.push(path));
  xs.write(0, "/a/1", "");
  expect(seen).toEqual(["/a", "/a/1", "/a/2"]);
});

test("a transaction is all or nothing, its watches last", () => {
  const xs = store();
  const seen: string[] = [];
  xs.write(0, "/a", "old");
  xs.watch(0, "/", (path) => seen.push(`${path}=${xs.exists("/a/b") ? "b" : "-"}`));
  seen.length = 0;
  expect(() =>
    xs.transaction(() => {
      xs.write(0, "/a", "new");
      xs.write(0, "/a/b", "x");
      xs.remove(0, "/local/domain/1");
      xs.setPermissions(0, "/local/domain/2", { owner: 1, others: "both" });
      throw new Error("no");
    }),
  ).toThrow("no");
  expect([xs.read(0, "/a"), xs.exists("/a/b"), xs.exists("/local/domain/1"), seen]).toEqual(["old", false, true, []]);
  expect(() => xs.write(1, "/local/domain/2/x", "1")).toThrow(code("DENIED"));
  expect(
    xs.transaction(() => {
      xs.write(0, "/a/1", "");
      xs.transaction(() => xs.write(0, "/a/b", ""));
      return 7;
    }),
  ).toBe(7);
  expect(seen).toEqual(["/a/1=b", "/a/b=b"]);
});

test("a guest cannot fill the store", () => {
  const xs = store();
  const fill = () => {
    for (let i = 0; i < 2000; i++) xs.write(1, `/local/domain/1/${i}`, "");
  };
  expect(fill).toThrow(code("NO_SPACE"));
  xs.remove(1, "/local/domain/1/7");
  xs.write(1, "/local/domain/1/again", "");
  xs.write(2, "/local/domain/2/x", ""); // others are not concerned
  const watch = () => {
    for (let i = 0; i < 200; i++) xs.watch(1, "/local/domain/1", () => {});
  };
  expect(watch).toThrow(code("NO_SPACE"));
  xs.unwatch(1);
  xs.watch(1, "/local/domain/1", () => {});
});

test("a failed write leaves no half-made path behind its quota", () => {
  const xs = store();
  for (let i = 0; i < 998; i++) xs.write(1, `/local/domain/1/${i}`, "");
  expect(() => xs.write(1, "/local/domain/1/a/b/c/d", "")).toThrow(code("NO_SPACE"));
  expect(xs.exists("/local/domain/1/a")).toBe(false);
});

test("the guest's store costs an exit an operation, and its watches come by the upcall", () => {
  const hypervisor = new Hypervisor();
  const machine = hypervisor.createMachine({ memory: 4 * MIB });
  const { store } = hypervisor.xenGuest(machine);
  const seen: string[] = [];
  let inside = false;
  const release = store.watch("x", (path) => {
    expect(inside).toBe(false);
    seen.push(path);
  });
  expect(seen).toEqual(["/local/domain/1/x"]);
  const exits = machine.exits.hypercalls;
  machine.trap.interrupts.hold();
  inside = true;
  store.write("x", 1);
  store.write("x/y", 2);
  inside = false;
  machine.trap.interrupts.unhold();
  expect([seen.length, machine.exits.hypercalls - exits]).toEqual([3, 2]);
  store.write("x", 3);
  release();
  store.write("x", 4);
  expect(seen.length).toBe(4);
});

test("xenbus: a state is announced once and seen by the other end; nonsense is Unknown", () => {
  const xs = store();
  const [host, guest] = [xs.as(0), xs.as(1)];
  xs.write(0, "/local/domain/0/back", "");
  const back = new XenbusEnd(host, "/local/domain/0/back", "/local/domain/1/front");
  const front = new XenbusEnd(guest, "/local/domain/1/front", "/local/domain/0/back");
  const states: XenbusState[] = [];
  back.watchOther((state) => states.push(state));
  front.switchTo(XenbusState.Initialised);
  front.switchTo(XenbusState.Initialised);
  guest.write("front/state", "-1");
  guest.write("front/state", "four");
  guest.remove("front");
  expect(states).toEqual([XenbusState.Unknown, XenbusState.Initialised, 0, 0, 0]);
  guest.write("front/ring-ref", "9");
  expect(back.required("ring-ref")).toBe(9);
  for (const value of ["", "x", "-1", "1e3", " 1", "99999999999999999999"]) {
    guest.write("front/ring-ref", value);
    expect(() => back.required("ring-ref")).toThrow(code("PROTOCOL"));
  }
});
