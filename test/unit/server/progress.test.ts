import { afterEach, beforeEach, expect, test, vi } from "vitest";

import { ProgressReporter } from "../../../src/server/progress.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function reporter() {
  const sent: string[] = [];
  return { sent, progress: new ProgressReporter((_count, message) => sent.push(message)) };
}

test("output goes out at most ten times a second, and of a burst the last 2,000 characters", () => {
  const { sent, progress } = reporter();
  for (let n = 0; n < 100; n += 1) {
    progress.text(`${n} `.padStart(100));
    vi.advanceTimersByTime(10);
  }
  expect(sent.length).toBeLessThanOrEqual(11);
  expect(sent.every((message) => message.length <= 2_000)).toBe(true);
  progress[Symbol.dispose]();
  expect(sent.join("")).toContain(" 99 ");
});

test("of a burst of statuses the latest goes out, as a line of its own", () => {
  const { sent, progress } = reporter();
  progress.status("s.t: 1/9");
  progress.status("s.t: 2/9");
  progress.text("printed");
  progress.status("s.t: 3/9");
  vi.advanceTimersByTime(100);
  expect(sent).toEqual(["s.t: 1/9", "printed\ns.t: 3/9"]);
  progress[Symbol.dispose]();
});

test("silence is broken every five seconds", () => {
  const { sent, progress } = reporter();
  vi.advanceTimersByTime(15_000);
  expect(sent).toEqual(["Running for 5 s", "Running for 10 s", "Running for 15 s"]);
  progress[Symbol.dispose]();
});

test("nothing is sent once the answer goes out", () => {
  const { sent, progress } = reporter();
  progress.text("a");
  progress.text("b");
  progress[Symbol.dispose]();
  expect(sent).toEqual(["a", "b"]);
  progress.text("late");
  progress.status("late");
  progress.step("late");
  vi.advanceTimersByTime(60_000);
  expect(sent).toEqual(["a", "b"]);
});
