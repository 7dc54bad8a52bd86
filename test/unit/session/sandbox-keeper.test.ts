import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { silentLogger } from "../../../src/common/logger.ts";
import { SandboxKeeper } from "../../../src/session/sandbox-keeper.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("while the image is built", () => {
  const closed = new Error("closed before it was built");
  const keeperOfSlowBuild = () =>
    new SandboxKeeper({
      foundation: "Python environment",
      prepare: ({ signal, onStep }) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener("abort", () => reject(closed));
          setTimeout(() => onStep("[1/2] FROM debian"), 1_000);
        }),
      open: () => Promise.reject(new Error("nothing was built")),
      logger: silentLogger,
    });

  test("a call that shows no progress is told to come again after 45 s, before clients give up", async () => {
    await using keeper = keeperOfSlowBuild();
    const settled = vi.fn();
    const call = keeper.get({ signal: new AbortController().signal, patient: false, onStep: () => undefined });
    const answer = expect(call.finally(settled)).rejects.toMatchObject({
      code: "image-building",
      message: "the Python environment is still being built",
    });
    await vi.advanceTimersByTimeAsync(44_900);
    expect(settled).not.toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(200);
    await answer;
  });

  test("a call that shows progress waits, and is told each step", async () => {
    const keeper = keeperOfSlowBuild();
    const steps: string[] = [];
    const options = { signal: new AbortController().signal, patient: true, onStep: (step: string) => steps.push(step) };
    const answer = expect(keeper.get(options)).rejects.toBe(closed);
    await vi.advanceTimersByTimeAsync(300_000);
    expect(steps).toEqual(["[1/2] FROM debian"]);
    await keeper[Symbol.asyncDispose]();
    await answer;
  });
});
