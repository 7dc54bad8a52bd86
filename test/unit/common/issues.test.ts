import { expect, test } from "vitest";
import { z } from "zod";

import { describeIssues } from "../../../src/common/issues.ts";

test("what is wrong is said with its place, in words that are not a program's", () => {
  const shape = z.strictObject({
    code: z.string(),
    count: z.number().int().nonnegative(),
    params: z.record(z.string(), z.unknown()),
    nested: z.object({ on: z.boolean() }),
  });
  const problems = (value: unknown) => describeIssues(shape.safeParse(value).error ?? { issues: [] }, "arguments");
  expect(problems({ count: 1.5, params: "{", nested: { on: 3 } })).toEqual([
    "code: is missing",
    "count: must be a whole number, not this number",
    "params: must be an object, not text",
    "nested.on: must be true or false, not this number",
  ]);
  expect(problems({ code: [], count: -1, params: [], nested: null, more: 1 })).toEqual([
    "code: must be text, not a list",
    "count: Too small: expected number to be >=0",
    "params: must be an object, not a list",
    "nested: must be an object, not null",
    'arguments: Unrecognized key: "more"',
  ]);
  const told = (value: unknown) =>
    describeIssues(shape.safeParse(value, { reportInput: true }).error ?? { issues: [] }, "arguments");
  expect(told({ code: 5, count: -1, params: "x".repeat(200), nested: { on: "yes" } })).toEqual([
    "code: must be text, not 5",
    "count: Too small: expected number to be >=0, not -1",
    `params: must be an object, not "${"x".repeat(100)}…"`,
    'nested.on: must be true or false, not "yes"',
  ]);
  expect(told({ count: 1.5, params: {}, nested: [] })).toEqual([
    "code: is missing",
    "count: must be a whole number, not 1.5",
    "nested: must be an object, not a list",
  ]);
  expect(problems([])).toEqual(["arguments: must be an object, not a list"]);
});
