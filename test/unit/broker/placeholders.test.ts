import { describe, expect, test } from "vitest";
import { IpyboxError } from "../../../src/common/errors.ts";
import { globMatcher, resolvePlaceholders } from "../../../src/broker/placeholders.ts";

const variables = new Map(
  Object.entries({ KEY: "k-1", lower_2: "low", NESTED: "${KEY}", PRICE: "$&$1" }).map(([name, value]) => [
    name,
    { value, fromEnvFile: false },
  ]),
);
const scope = { variables, expose: ["*"], workspace: "/home/me/work" };

describe("placeholders", () => {
  test.each([
    ["${KEY}", "k-1"],
    ["Bearer ${KEY}!", "Bearer k-1!"],
    ["${KEY}${lower_2}", "k-1low"],
    ["${NESTED}", "${KEY}"],
    ["${PRICE}", "$&$1"],
    ["${WORKSPACE}/data", "/home/me/work/data"],
    ["${foo-bar}", "${foo-bar}"],
    ["$KEY ${} ${ KEY } {KEY}", "$KEY ${} ${ KEY } {KEY}"],
  ])("turn %j into %j", (template, value) => {
    expect(resolvePlaceholders(template, scope).value).toBe(value);
  });

  test("are replaced at any depth, in values only", () => {
    const template = { "${KEY}": ["${KEY}", { a: { b: "${lower_2}" } }], n: 1, t: true, z: null };
    expect(resolvePlaceholders(template, scope).value).toEqual({
      "${KEY}": ["k-1", { a: { b: "low" } }],
      n: 1,
      t: true,
      z: null,
    });
  });

  test("report what they used, the workspace not counted", () => {
    expect(resolvePlaceholders(["${KEY}", "${WORKSPACE}"], scope).used).toEqual(new Set(["KEY"]));
  });

  test("that name nothing are all named in one error", () => {
    const resolve = () => resolvePlaceholders(["${NOPE}", "${NADA}", "${KEY}"], scope);
    expect(resolve).toThrow(expect.objectContaining({ code: "missing-variable" }) as IpyboxError);
    expect(resolve).toThrow("The variables ${NOPE}, ${NADA} are not set");
  });

  test("of variables that are not exposed say which option exposes them", () => {
    const resolve = () => resolvePlaceholders("${KEY}", { ...scope, expose: ["lower_*"] });
    expect(resolve).toThrow("The variable ${KEY} is not exposed");
    expect(resolvePlaceholders("${lower_2}", { ...scope, expose: ["lower_*"] }).value).toBe("low");
    expect(resolvePlaceholders("${WORKSPACE}", { ...scope, expose: [] }).value).toBe("/home/me/work");
  });
});

test.each([
  [["*"], "ANY", true],
  [["API_*"], "API_KEY", true],
  [["API_*"], "MY_API_KEY", false],
  [["K?Y"], "KEY", true],
  [["K.Y"], "KEY", false],
  [[], "KEY", false],
  [["A", "B"], "B", true],
])("the globs %j match %s: %s", (globs, name, matches) => {
  expect(globMatcher(globs)(name)).toBe(matches);
});
