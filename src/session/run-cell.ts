import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import { within } from "../common/time.ts";
import type { CellOutput } from "../kernel/cell-output.ts";
import type { Execution, ExecutionResult } from "../kernel/execution.ts";
import type { KernelConnection } from "../kernel/kernel-connection.ts";
import type { DiskSpace } from "../workspace/disk-space.ts";
import type { ShieldBreach } from "../workspace/shield-watcher.ts";
import { noticeOfBreach, noticeOfDeath } from "./cell-notices.ts";
import type { CellResult } from "./cell-result.ts";
import { watchDiskSpace } from "./disk-watch.ts";
import { noticeOfStop, reasonOf, statusOf, type StopReason } from "./stop-reason.ts";

/** What a cell needs of its sandbox. */
export interface CellSandbox {
  readonly kernel: Pick<KernelConnection, "execute" | "interrupt">;
  readonly shields: { readonly breach: ShieldBreach | undefined } | undefined;
  /** Whether the sandbox is still there; its kernel may have died. */
  readonly usable: boolean;
  replaceKernel(): Promise<void>;
}

export interface RunCellOptions {
  readonly timeoutMs: number;
  /** Aborted with a {@link StopReason}, or with anything else for a cancellation by the client. */
  readonly signal: AbortSignal;
  readonly onText: (text: string) => void;
  /** Called when the cell is about to be stopped, so that its tool calls end as well. */
  readonly onStop: () => void;
  /** Undefined where there is no limit of a sandbox's own. */
  readonly memoryLimitBytes: number | undefined;
  readonly readDiskSpace: () => Promise<DiskSpace>;
  readonly logger: Logger;
}

export interface CellOutcome {
  readonly status: CellResult["status"];
  readonly output: CellOutput;
  readonly notices: readonly string[];
  readonly executionCount: number | undefined;
  readonly stateKept: boolean;
  /** The sandbox is not to be used any more. */
  readonly sandboxLost: boolean;
  /** Aborts when the answer is due, files and pictures included, where others than the cell have ended it. */
  readonly due: AbortSignal | undefined;
}

const MAX_OUTPUT_BYTES = 256 * 2 ** 20;
const INTERRUPT_GRACE_MS = 2_000;
/** From the deadline, or the wish to stop, to the answer are 5 s at most. */
const STOP_MS = 4_500;
/** A kernel's death is answered within 2 s, of which its news may take 0.75. */
const NEW_KERNEL_MS = 1_150;

/** Runs one cell; a cell that is to stop is interrupted, then its kernel is killed, then its sandbox is given up. */
export async function runCell(live: CellSandbox, code: string, options: RunCellOptions): Promise<CellOutcome> {
  // A reset stops what came before it, and does not undo it.
  if (options.signal.aborted && reasonOf(options.signal).type !== "reset") return notRun(reasonOf(options.signal));
  const stop = new AbortController();
  const onAbort = () => stop.abort(reasonOf(options.signal));
  const execution = live.kernel.execute(code, {
    onText: options.onText,
    maxOutputBytes: MAX_OUTPUT_BYTES,
    onOutputLimit: () => stop.abort({ type: "output-limit" } satisfies StopReason),
  });
  const timer = setTimeout(
    () => stop.abort({ type: "timeout", afterMs: options.timeoutMs } satisfies StopReason),
    options.timeoutMs,
  );
  const diskWatch = watchDiskSpace(options.readDiskSpace, ({ floorBytes }) =>
    stop.abort({ type: "disk-full", floorBytes } satisfies StopReason),
  );
  options.signal.addEventListener("abort", onAbort);
  if (options.signal.aborted) onAbort();
  try {
    const result = await Promise.race([execution.done, aborted(stop.signal)]);
    if (result === undefined) {
      options.onStop();
      return await stopCell(live, execution, stop.signal.reason as StopReason, options); // only StopReasons abort it
    }
    if (result.status === "died") return await afterDeath(live, result, options);
    return { ...result, notices: [], stateKept: true, sandboxLost: false, due: undefined };
  } finally {
    clearTimeout(timer);
    diskWatch[Symbol.dispose]();
    options.signal.removeEventListener("abort", onAbort);
  }
}

function notRun(reason: StopReason): CellOutcome {
  const notices = [noticeOfStop(reason, "not-run")];
  const output: CellOutput = { text: "", pictures: [] };
  const cell = { status: statusOf(reason), output, notices, executionCount: undefined };
  return { ...cell, stateKept: true, sandboxLost: false, due: AbortSignal.timeout(STOP_MS) };
}

async function stopCell(
  live: CellSandbox,
  execution: Execution,
  reason: StopReason,
  options: RunCellOptions,
): Promise<CellOutcome> {
  const status = statusOf(reason);
  const due = status === "error" ? undefined : AbortSignal.timeout(STOP_MS);
  execution.expectInterrupt();
  const interrupt = { isLate: false };
  const interrupted = execution.started
    .then(async () => {
      interrupt.isLate = execution.ended;
      if (!interrupt.isLate) await live.kernel.interrupt(INTERRUPT_GRACE_MS);
    })
    .catch((error: unknown) => options.logger.info("a cell could not be interrupted", { error: messageOf(error) }));
  const result = await within(
    INTERRUPT_GRACE_MS,
    Promise.all([execution.done, interrupted]).then(([done]) => done),
  );
  if (result !== undefined && result.status !== "died") {
    const isWhole = interrupt.isLate && result.status === "ok" && status !== "error"; // what is beyond a limit was dropped
    if (isWhole) return { ...result, notices: [], stateKept: true, sandboxLost: false, due };
    const notices = [noticeOfStop(reason, "interrupted")];
    return { ...result, status, notices, stateKept: true, sandboxLost: false, due };
  }
  const { output } = execution;
  const replaced = await tryReplaceKernel(live, options);
  const notices = [noticeOfStop(reason, replaced ? "killed" : "replaced")];
  return { status, output, notices, executionCount: undefined, stateKept: false, sandboxLost: !replaced, due };
}

async function afterDeath(
  live: CellSandbox,
  result: ExecutionResult & { status: "died" },
  options: RunCellOptions,
): Promise<CellOutcome> {
  options.onStop();
  const due = AbortSignal.timeout(NEW_KERNEL_MS);
  const breach = live.shields?.breach;
  if (breach !== undefined) {
    const notices = [noticeOfBreach(breach)];
    return { ...result, notices, executionCount: undefined, stateKept: false, sandboxLost: true, due };
  }
  const replaced = live.usable && (await tryReplaceKernel(live, options));
  return {
    status: "died",
    output: result.output,
    notices: [noticeOfDeath(result.cause, { replaced, memoryLimitBytes: options.memoryLimitBytes })],
    executionCount: undefined,
    stateKept: false,
    sandboxLost: !replaced,
    due,
  };
}

async function tryReplaceKernel(live: CellSandbox, options: RunCellOptions): Promise<boolean> {
  try {
    return (
      (await within(
        NEW_KERNEL_MS,
        live.replaceKernel().then(() => true),
      )) === true
    );
  } catch (error) {
    options.logger.warn("no new kernel in this sandbox", { error });
    return false;
  }
}

function aborted(signal: AbortSignal): Promise<undefined> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener("abort", () => resolve(undefined), { once: true });
  });
}
