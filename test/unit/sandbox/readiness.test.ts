import { expect, it } from "vitest";
import type { SandboxExit } from "../../../src/sandbox/engine.ts";
import { LogTail } from "../../../src/sandbox/log-tail.ts";
import { untilReady } from "../../../src/sandbox/readiness.ts";

const never = new Promise<never>(() => undefined);
const { signal } = new AbortController();

it.each<[string, SandboxExit, RegExp]>([
  ["ran out of memory before it was ready", { code: 137, outOfMemory: true }, /^Give it more with --memory/],
  ["ended before it was ready (exit code 1)", { code: 1, outOfMemory: false }, /--memory.*--pids.*--tmp-size/],
])("names the limits that may be too small for a sandbox that %s", async (what, exit, hint) => {
  const started = { exited: Promise.resolve(exit), log: new LogTail(1000) };
  await expect(untilReady(never, started, signal)).rejects.toMatchObject({
    code: "sandbox-start-failed",
    message: `The sandbox ${what}`,
    hint: expect.stringMatching(hint) as string,
  });
});
