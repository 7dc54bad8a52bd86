import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { ProgressReporter } from "../../../src/server/progress.ts";

let sent: [number, string][];
let progress: ProgressReporter;
beforeEach(() => {
  vi.useFakeTimers();
  sent = [];
  progress = new ProgressReporter((count, message) => sent.push([count, message]));
});
afterEach(() => {
  progress[Symbol.dispose]();
  vi.useRealTimers();
});
const messages = () => sent.map(([, message]) => message);

describe("ProgressReporter", () => {
  test("sends a line with its newline, and what has none soon after", () => {
    for (const line of ["a", "b"]) {
      progress.text(line);
      progress.text("\n");
      vi.advanceTimersByTime(100);
    }
    for (const part of ["c", "\n", "d", "\n", "e"]) progress.text(part);
    vi.advanceTimersByTime(100);
    progress.text("\na bar that has no end");
    vi.advanceTimersByTime(200);
    expect(messages()).toEqual(["a\n", "b\n", "c\n", "d\n", "e\n", "a bar that has no end"]);
  });

  test("sends the first output at once and then at most ten messages a second, losing nothing of small output", () => {
    for (let ms = 0; ms < 1000; ms += 10) {
      progress.text(`${ms}\n`);
      vi.advanceTimersByTime(10);
    }
    expect(messages()[0]).toBe("0\n");
    expect(sent.length).toBeLessThanOrEqual(11);
    expect(messages().join("")).toBe(Array.from({ length: 100 }, (_, i) => `${i * 10}\n`).join(""));
    expect(sent.map(([count]) => count)).toEqual(sent.map((_, index) => index + 1));
  });

  test("shows the last 2,000 characters of a burst, none of them halved", () => {
    progress.text("first\n");
    progress.text("x".repeat(5000));
    progress.text(`😀${"y".repeat(1999)}`);
    vi.advanceTimersByTime(100);
    expect(messages()).toEqual(["first\n", "y".repeat(1999)]);
  });

  test("carries no control sequences", () => {
    progress.text("\u001b[31mred\u001b[0m 10%\r20%\n");
    expect(messages()).toEqual(["red 10%\n20%\n"]);
  });

  test("beats after every 5 s of silence, and only then", () => {
    vi.advanceTimersByTime(4_000);
    progress.text("output\n");
    vi.advanceTimersByTime(4_999);
    expect(messages()).toEqual(["output\n"]);
    vi.advanceTimersByTime(10_001);
    expect(messages().slice(1)).toEqual(["Running for 9 s", "Running for 14 s", "Running for 19 s"]);
  });

  test("sends what waits before the answer, and nothing after it", () => {
    progress.text("a\n");
    progress.text("b");
    progress[Symbol.dispose]();
    progress.text("late");
    progress.step("late");
    vi.advanceTimersByTime(60_000);
    expect(messages()).toEqual(["a\n", "b"]);
  });

  test("does nothing for a client that does not listen", () => {
    const silent = new ProgressReporter(undefined);
    silent.text("a");
    silent.step("b");
    vi.advanceTimersByTime(60_000);
    expect(silent.active).toBe(false);
    expect(vi.getTimerCount()).toBe(1); // the other reporter's heartbeat
  });
});
