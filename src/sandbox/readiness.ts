import { IpyboxError } from "../common/errors.ts";
import { withTimeout } from "../common/time.ts";
import type { SandboxExit } from "./engine.ts";
import { orAborted } from "../common/or-aborted.ts";
import type { LogTail } from "./log-tail.ts";

export interface Startable {
  /** Resolves when the sandbox has ended, whoever ended it. */
  readonly exited: Promise<SandboxExit>;
  readonly log: LogTail;
}

/** From the start of the sandbox to the sign of life. */
const READY_TIMEOUT_MS = 60_000;
const LOG_LINES_IN_ERRORS = 10;

/** Waits for a sign of life. Rejects with `sandbox-start-failed` when the sandbox ends first or takes too long. */
export async function untilReady<T>(sign: Promise<T>, started: Startable, signal: AbortSignal): Promise<T> {
  const timeout = withTimeout(READY_TIMEOUT_MS);
  const ended = started.exited.then((exit) =>
    Promise.reject(startFailed(describeExit(exit), started.log, exit.outOfMemory ? MORE_MEMORY : undefined)),
  );
  try {
    return await orAborted(Promise.race([sign, ended]), AbortSignal.any([signal, timeout]));
  } catch (error) {
    signal.throwIfAborted();
    if (timeout.aborted) throw startFailed(`was not ready within ${READY_TIMEOUT_MS / 1000} s`, started.log);
    throw error;
  }
}

function startFailed(what: string, log: LogTail, hint = CALL_AGAIN): IpyboxError {
  const lines = log.lines(LOG_LINES_IN_ERRORS);
  return new IpyboxError("sandbox-start-failed", `The sandbox ${what}${lines === "" ? "" : `:\n${lines}`}`, { hint });
}

const MORE_MEMORY = "Give it more with --memory.";
const CALL_AGAIN =
  "Call again; `ipybox doctor` checks the engine and the image. Where --memory, --pids or --tmp-size are given, they may be too small.";

function describeExit(exit: SandboxExit): string {
  if (exit.outOfMemory) return "ran out of memory before it was ready";
  return `ended before it was ready (exit code ${exit.code ?? "unknown"})`;
}
