import { describe, expect, test } from "vitest";
import { silentLogger } from "../../../src/common/logger.ts";
import { type DeathCause, Execution, type ExecutionOptions } from "../../../src/kernel/execution.ts";
import { type CellSandbox, runCell, type RunCellOptions } from "../../../src/session/run-cell.ts";

/** A kernel that does what it is told when it is told. */
class ScriptedSandbox implements CellSandbox {
  readonly did: string[] = [];
  shields: CellSandbox["shields"] = { breach: undefined };
  usable = true;
  execution: Execution | undefined;
  onInterrupt: (execution: Execution) => void = () => undefined;
  replacement: Promise<void> = Promise.resolve();

  readonly kernel = {
    execute: (_code: string, options: ExecutionOptions) => {
      this.did.push("execute");
      this.execution = new Execution(options);
      return this.execution;
    },
    interrupt: () => {
      this.did.push("interrupt");
      if (this.execution) this.onInterrupt(this.execution);
      return Promise.resolve();
    },
  };

  replaceKernel(): Promise<void> {
    this.did.push("replace");
    return this.replacement;
  }
}

const message = (channel: string, type: string, content: unknown) => ({
  channel,
  id: "m",
  type,
  parentId: "p",
  content,
  size: JSON.stringify(content).length,
});
const begin = (execution: Execution) => execution.handle(message("iopub", "execute_input", {}));
const print = (execution: Execution, text: string) =>
  execution.handle(message("iopub", "stream", { name: "stdout", text }));
const end = (execution: Execution, status: "ok" | "error" = "ok") => {
  execution.handle(message("shell", "execute_reply", { status, execution_count: 7 }));
  execution.handle(message("iopub", "status", { execution_state: "idle" }));
};
const raise = (execution: Execution, name: string) => {
  execution.handle(message("iopub", "error", { ename: name, evalue: "", traceback: [`${name}: …`] }));
  end(execution, "error");
};

function start(sandbox: ScriptedSandbox, overrides: Partial<RunCellOptions> = {}) {
  const outcome = runCell(sandbox, "code", {
    timeoutMs: 60_000,
    signal: new AbortController().signal,
    onText: () => undefined,
    onStop: () => sandbox.did.push("stop calls"),
    memoryLimitBytes: 2 * 2 ** 30,
    readDiskSpace: () => Promise.resolve({ freeBytes: 1e12, totalBytes: 2e12, floorBytes: 1e9, low: false }),
    logger: silentLogger,
    ...overrides,
  });
  const { execution } = sandbox;
  if (execution) begin(execution);
  return { outcome, execution: execution ?? new Execution({ maxOutputBytes: 0, onOutputLimit: () => undefined }) };
}

describe("a cell that ends by itself", () => {
  test("has its output, and leaves the kernel as it is", async () => {
    const sandbox = new ScriptedSandbox();
    const { outcome, execution } = start(sandbox);
    print(execution, "hello\n");
    end(execution);
    expect(await outcome).toEqual({
      status: "ok",
      output: { text: "hello", pictures: [] },
      notices: [],
      executionCount: 7,
      stateKept: true,
      sandboxLost: false,
    });
    expect(sandbox.did).toEqual(["execute"]);
  });
});

describe("a cell that is stopped", () => {
  test("is interrupted at its deadline, and keeps its variables", async () => {
    const sandbox = new ScriptedSandbox();
    sandbox.onInterrupt = (execution) => raise(execution, "KeyboardInterrupt");
    const { outcome, execution } = start(sandbox, { timeoutMs: 1 });
    print(execution, "so far");
    expect(await outcome).toMatchObject({
      status: "timeout",
      output: { text: "so far" },
      notices: ["[Timed out after 0.001 s: the cell was interrupted; variables are kept]"],
      stateKept: true,
    });
    expect(sandbox.did).toEqual(["execute", "stop calls", "interrupt"]);
  });

  test.for([
    [{ type: "reset" }, "cancelled", "[Stopped by reset: the cell was interrupted]"],
    [{ type: "cancelled" }, "cancelled", "[Cancelled: the cell was interrupted; variables are kept]"],
    ["the client's own reason", "cancelled", "[Cancelled: the cell was interrupted; variables are kept]"],
  ] as const)("says by whom: %j", async ([reason, status, notice]) => {
    const sandbox = new ScriptedSandbox();
    sandbox.onInterrupt = (execution) => raise(execution, "KeyboardInterrupt");
    const stop = new AbortController();
    const { outcome } = start(sandbox, { signal: stop.signal });
    stop.abort(reason);
    expect(await outcome).toMatchObject({ status, notices: [notice] });
  });

  test("is not run at all when it was stopped before its turn", async () => {
    const sandbox = new ScriptedSandbox();
    const { outcome } = start(sandbox, { signal: AbortSignal.abort("the client's own reason") });
    expect(await outcome).toMatchObject({ notices: ["[Cancelled: the cell was not run]"], stateKept: true });
    expect(sandbox.did).toEqual([]);
  });

  test("is run, and interrupted, when a reset came right behind it", async () => {
    const sandbox = new ScriptedSandbox();
    sandbox.onInterrupt = (execution) => raise(execution, "KeyboardInterrupt");
    const { outcome } = start(sandbox, { signal: AbortSignal.abort({ type: "reset" }) });
    expect(await outcome).toMatchObject({ notices: ["[Stopped by reset: the cell was interrupted]"] });
  });

  test("is told as it was when it had ended before it could be interrupted", async () => {
    const sandbox = new ScriptedSandbox();
    const { outcome, execution } = start(sandbox, { signal: AbortSignal.abort({ type: "reset" }) });
    print(execution, "all");
    end(execution);
    expect(await outcome).toMatchObject({ status: "ok", output: { text: "all" }, notices: [], stateKept: true });
    expect(sandbox.did).not.toContain("interrupt");
  });

  test("is interrupted when it says too much, and when the disk gets full", async () => {
    const chatty = new ScriptedSandbox();
    chatty.onInterrupt = (execution) => raise(execution, "KeyboardInterrupt");
    const { outcome, execution } = start(chatty);
    for (let i = 0; i < 5; i += 1) print(execution, "x".repeat(60 * 2 ** 20));
    const { status, notices } = await outcome;
    expect([status, notices]).toEqual(["error", ["[Output limit of 256 MB exceeded: the cell was interrupted]"]]);

    const writer = new ScriptedSandbox();
    writer.onInterrupt = (execution) => raise(execution, "KeyboardInterrupt");
    const readings = [2e9, 0.5e9];
    const space = () => ({
      freeBytes: readings[0] ?? 0,
      totalBytes: 2e12,
      floorBytes: 1e9,
      low: (readings.shift() ?? 0) < 1e9,
    });
    expect(await start(writer, { readDiskSpace: () => Promise.resolve(space()) }).outcome).toMatchObject({
      status: "error",
      notices: ["[Less than 1 GB of disk space is free: the cell was interrupted; variables are kept]"],
    });
  });

  test("loses its kernel when it does not heed the interrupt", async () => {
    const sandbox = new ScriptedSandbox();
    const { outcome } = start(sandbox, { timeoutMs: 1 });
    expect(await outcome).toMatchObject({
      status: "timeout",
      notices: ["[Timed out after 0.001 s: the kernel was killed; variables are lost]"],
      stateKept: false,
      sandboxLost: false,
    });
    expect(sandbox.did).toEqual(["execute", "stop calls", "interrupt", "replace"]);
  });

  test("loses its sandbox when that makes no new kernel", async () => {
    const sandbox = new ScriptedSandbox();
    sandbox.onInterrupt = (execution) => execution.die({ type: "signal", signal: "SIGKILL" });
    sandbox.replacement = Promise.reject(new Error("no"));
    sandbox.replacement.catch(() => undefined);
    expect(await start(sandbox, { timeoutMs: 1 }).outcome).toMatchObject({
      notices: ["[Timed out after 0.001 s: the sandbox was replaced; variables are lost]"],
      sandboxLost: true,
    });
  });
});

describe("a kernel that dies", () => {
  test.for([
    [{ type: "out-of-memory" }, "The kernel died (out of memory, limit 2 GiB)"],
    [{ type: "exit", code: 3 }, "The kernel died (exit code 3)"],
    [{ type: "signal", signal: "SIGSEGV" }, "The kernel died (SIGSEGV)"],
    [{ type: "output-limit" }, "The kernel died (killed: it sent more than 256 MB at once)"],
    [{ type: "unknown" }, "The kernel died"],
  ] as const satisfies readonly (readonly [DeathCause, string])[])(
    "is told with its cause: %j",
    async ([cause, words]) => {
      const sandbox = new ScriptedSandbox();
      const { outcome, execution } = start(sandbox);
      print(execution, "before");
      execution.die(cause);
      expect(await outcome).toMatchObject({
        status: "died",
        output: { text: "before" },
        notices: [`[${words}; a new kernel is running; variables and imports are lost]`],
        stateKept: false,
        sandboxLost: false,
      });
      expect(sandbox.did).toEqual(["execute", "stop calls", "replace"]);
    },
  );

  test("with its sandbox asks that for nothing", async () => {
    const sandbox = new ScriptedSandbox();
    const { outcome, execution } = start(sandbox);
    sandbox.usable = false;
    execution.die({ type: "sandbox-end" });
    expect(await outcome).toMatchObject({
      notices: [
        "[The kernel died (its sandbox ended); a new sandbox is made for the next cell; variables and imports are lost]",
      ],
      sandboxLost: true,
    });
    expect(sandbox.did).toEqual(["execute", "stop calls"]);
  });

  test("because its sandbox was paused is told with the path that it must not see", async () => {
    const sandbox = new ScriptedSandbox();
    const { outcome, execution } = start(sandbox);
    sandbox.shields = { breach: { path: ".env", what: "was replaced" } };
    execution.die({ type: "sandbox-end" });
    const { notices } = await outcome;
    expect(notices[0]).toMatch(/^\[\.env was replaced while this cell ran: the sandbox was stopped at once/);
  });
});
