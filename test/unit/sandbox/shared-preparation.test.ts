import { describe, expect, it } from "vitest";
import { Deferred } from "../../../src/common/lifecycle.ts";
import { SharedPreparation } from "../../../src/sandbox/shared-preparation.ts";
import type { PrepareOptions } from "../../../src/sandbox/engine.ts";

function setUp() {
  const runs: { options: PrepareOptions; done: Deferred<string> }[] = [];
  const shared = new SharedPreparation<string>((options) => {
    const done = new Deferred<string>();
    options.signal.addEventListener("abort", () => done.reject(new Error("stopped")));
    runs.push({ options, done });
    return done.promise;
  });
  const join = (controller = new AbortController()) => {
    const steps: string[] = [];
    const result = shared.join({ signal: controller.signal, onProgress: (step) => steps.push(step.message) });
    return { steps, result, controller };
  };
  const run = (index: number) => {
    const found = runs[index];
    if (!found) throw new Error(`run ${index} did not start`);
    return found;
  };
  return { runs, join, run };
}

describe("a shared preparation", () => {
  it("runs once for all who ask while it runs, and tells each of its progress", async () => {
    const { runs, join, run } = setUp();
    const [one, two] = [join(), join()];
    run(0).options.onProgress({ message: "step" });
    run(0).done.resolve("tag");
    expect(await Promise.all([one.result, two.result])).toEqual(["tag", "tag"]);
    expect([one.steps, two.steps, runs.length]).toEqual([["step"], ["step"], 1]);
  });

  it("goes on when one of two gives up, and stops when both have", async () => {
    const { join, run } = setUp();
    const [one, two] = [join(), join()];
    one.controller.abort(new Error("one"));
    await expect(one.result).rejects.toThrow("one");
    expect(run(0).options.signal.aborted).toBe(false);
    two.controller.abort(new Error("two"));
    await expect(two.result).rejects.toThrow("two");
    expect(run(0).options.signal.aborted).toBe(true);
  });

  it("starts anew after a failure and after an end", async () => {
    const { join, run, runs } = setUp();
    const failed = join();
    run(0).done.reject(new Error("no network"));
    await expect(failed.result).rejects.toThrow("no network");
    const next = join();
    run(1).done.resolve("tag");
    await next.result;
    expect(runs).toHaveLength(2);
  });
});
