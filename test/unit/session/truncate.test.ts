import { describe, expect, test } from "vitest";

import { truncate } from "../../../src/session/truncate.ts";

describe("truncate", () => {
  test("leaves alone what fits", () => {
    expect(truncate("abc", 3)).toBeUndefined();
    expect(truncate("", 0)).toBeUndefined();
  });

  test("shows the head below a budget of 1,000", () => {
    expect(truncate("abcdef", 4)).toEqual({ text: "abcd", shownChars: 4, totalChars: 6 });
    expect(truncate("abc", 0)).toEqual({ text: "", shownChars: 0, totalChars: 3 });
  });

  test("shows three quarters head and one quarter tail from 1,000 on", () => {
    const result = truncate("h".repeat(2000) + "t".repeat(2000), 1000);
    expect(result).toMatchObject({ shownChars: 1000, totalChars: 4000 });
    expect(result?.text).toBe(`${"h".repeat(750)}\n[...]\n${"t".repeat(250)}`);
  });

  test("counts characters, not UTF-16 units, and never splits one", () => {
    expect(truncate("😀😀😀", 3)).toBeUndefined();
    expect(truncate("😀😀😀", 2)).toEqual({ text: "😀😀", shownChars: 2, totalChars: 3 });
    expect(truncate("😀".repeat(1001), 1000)?.text).toBe(`${"😀".repeat(750)}\n[...]\n${"😀".repeat(250)}`);
  });
});
