import { describe, expect, test } from "vitest";

import { markIntegers, restoreIntegers } from "../../../src/common/exact-integers.ts";

const parseExactly = (json: string): unknown => JSON.parse(markIntegers(json));
const passOn = (json: string) => restoreIntegers(JSON.stringify(parseExactly(json)));

describe("a JSON value that is only passed on", () => {
  test.each([
    "[9007199254740993,-9007199254740993,9223372036854775807]",
    '{"id":1234567890123456789,"list":[{"a":18446744073709551615}]}',
    `[${"9".repeat(100)}]`,
  ])("keeps the integers of %s", (json) => {
    expect(passOn(json)).toBe(json);
  });

  test.each([
    '["1234567890123456789",", 1234567890123456789,","\\\\",1]',
    '["\\",1234567890123456789,\\""]',
    '{"1234567890123456789":"[12345678901234567890]"}',
    "[9007199254740991,1234567890123456,0.1,-5,1e+21,1.5]",
  ])("is what JSON.parse makes of it otherwise: %s", (json) => {
    expect(parseExactly(json)).toEqual(JSON.parse(json));
    expect(passOn(json)).toBe(JSON.stringify(JSON.parse(json)));
  });

  test.each(["1.2345678901234567890", "1234567890123456789.5", "1e-1234567890123456", "12345678901234567890e5"])(
    "is left alone where it is no integer: %s",
    (json) => {
      expect(parseExactly(`[${json}]`)).toEqual(JSON.parse(`[${json}]`));
    },
  );

  test.each([
    "[12345678901234567890",
    '["1234567890123456789',
    "[0012345678901234567890]",
    "[1,,12345678901234567890]",
  ])("is refused where it is no JSON: %s", (json) => {
    expect(() => parseExactly(json)).toThrow(SyntaxError);
  });

  test("may be large", () => {
    const json = JSON.stringify(['\\"'.repeat(4_000_000), "x".repeat(8_000_000)]).replace(
      "]",
      ",12345678901234567890]",
    );
    expect(passOn(json)).toBe(json);
  });
});
