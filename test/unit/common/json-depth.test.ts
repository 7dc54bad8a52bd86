import { expect, test } from "vitest";

import { isDeeperThan } from "../../../src/common/json-depth.ts";

function nested(levels: number): unknown {
  let value: unknown = "core";
  for (let level = 0; level < levels; level += 1) value = level % 2 === 0 ? [1, value] : { a: null, b: value };
  return value;
}

test("levels of objects and arrays are counted, plain values are none", () => {
  expect(isDeeperThan(0, "x")).toBe(false);
  expect(isDeeperThan(0, {})).toBe(true);
  expect(isDeeperThan(3, nested(3))).toBe(false);
  expect(isDeeperThan(3, nested(4))).toBe(true);
});

test("a million levels are no deeper than the stack", () => {
  expect(isDeeperThan(500, nested(1_000_000))).toBe(true);
  expect(isDeeperThan(2_000_000, nested(1_000_000))).toBe(false);
});
