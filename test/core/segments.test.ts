import { expect, test } from "vitest";
import { SegmentList } from "../../src/core/segments.ts";

const runs = (list: SegmentList) => Array.from({ length: list.count }, (_, i) => [list.start(i), list.length(i)]);

test("adjacent runs merge, empty ones vanish, and the list grows past its capacity", () => {
  const list = new SegmentList(1);
  list.push(100, 50);
  list.push(150, 50);
  list.push(300, 0);
  for (let i = 0; i < 20; i++) list.push(1000 + i * 10, 5);
  expect(runs(list).slice(0, 2)).toEqual([
    [100, 100],
    [1000, 5],
  ]);
  expect([list.count, list.total]).toEqual([21, 200]);
  list.clear();
  expect([list.count, list.total]).toEqual([0, 0]);
});

test("a slice follows the bytes across runs", () => {
  const source = new SegmentList();
  source.push(0, 10);
  source.push(100, 10);
  source.push(200, 10);
  const slice = new SegmentList();
  slice.pushSlice(source, 8, 14);
  expect(runs(slice)).toEqual([
    [8, 2],
    [100, 10],
    [200, 2],
  ]);
});

test("addresses above 2 GiB stay unsigned", () => {
  const list = SegmentList.of(0xfffff000, 0x1000);
  expect(runs(list)).toEqual([[0xfffff000, 0x1000]]);
});
