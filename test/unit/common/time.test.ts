import { expect, test } from "vitest";

import { formatDuration, formatSeconds } from "../../../src/common/time.ts";

test.for([
  [0.4, "0 ms"],
  [420, "420 ms"],
  [999.6, "1 s"],
  [3_500, "3.5 s"],
  [9_960, "10 s"],
  [59_400, "59 s"],
  [59_700, "1 min"],
  [119_900, "2 min"],
  [125_000, "2 min 5 s"],
] as const)("%d ms is said as %s", ([ms, text]) => {
  expect(formatDuration(ms)).toBe(text);
});

test.for([
  [3.2, "0.003 s"],
  [200, "0.2 s"],
  [0.07 * 1000, "0.07 s"],
  [1_250, "1.25 s"],
  [90_000, "90 s"],
] as const)("%d ms are %s", ([ms, text]) => {
  expect(formatSeconds(ms)).toBe(text);
});
