import { type ChildProcess, spawn } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import type { Transport } from "@modelcontextprotocol/sdk/shared/transport.js";
import type { JSONRPCMessage } from "@modelcontextprotocol/sdk/types.js";
import { restoreIntegers } from "../common/exact-integers.ts";
import { Deferred } from "../common/lifecycle.ts";
import { idOfOversize, type Line, LineSplitter } from "../common/line-splitter.ts";
import { stripControls } from "../common/logger.ts";
import { within } from "../common/time.ts";
import { wellFormed } from "../common/well-formed.ts";
import { markResult } from "./exact-results.ts";

/** The longest message of an upstream. A tool's result has to fit the bridge as well, which is half of it. */
export const MAX_MESSAGE_BYTES = 32 * 1024 * 1024;
/** The code of the error that stands in for an answer which is too large to be read. */
export const RESULT_TOO_LARGE = -32098;

const KEPT_ERROR_CHARACTERS = 8192;
const ERROR_LINES = 12;

/** After the end of stdin, then after SIGTERM; together with SIGKILL less than the 2 s that closing may take. */
const END_GRACE_MS = 300;
const TERM_GRACE_MS = 900;
const OUTPUT_GRACE_MS = 500;

/**
 * Becomes the upstream (same pid, leader of its own group), after leaving a watchdog in that group which kills the
 * whole of it when our end of descriptor 3 closes: because we closed it or because we were killed. As a member the
 * watchdog keeps the group's id from being used again; as an orphan it is no child that the upstream has to know of.
 *
 * Descendants that moved to a session of their own (`setsid`, daemons) are known by the mark in the environment that
 * they were started with. They are killed first, until a look at all processes finds none that was not there before.
 */
const LAUNCHER = `
( ( trap "" HUP INT TERM
    read _
    PATH=/usr/bin:/bin
    read self _ </proc/self/stat
    rounds=0
    while [ "$rounds" -lt 10 ]; do
      found=
      for environ in $(env -i PATH="$PATH" grep -lsF -- "$1" /proc/[0-9]*/environ); do
        pid=\${environ#/proc/}; pid=\${pid%/environ}
        if [ "$pid" != "$self" ] && kill -s KILL "$pid"; then found=yes; fi
      done
      if [ -z "$found" ]; then break; fi
      rounds=$((rounds + 1))
    done
    kill -s KILL -- "-$$"
  ) <&3 3<&- >/dev/null 2>&1 & )
shift
unset PWD OLDPWD SHLVL # the shell's own, which nobody gave
exec "$@" 3<&-`;

export interface ProcessOptions {
  /** Absolute path. */
  readonly executable: string;
  readonly args: readonly string[];
  readonly cwd: string;
  /** The whole environment. The mark is a part of one of its values. */
  readonly env: Readonly<Record<string, string>>;
  /** 32 hexadecimal digits that no other process has in its environment: whatever has them is of this upstream. */
  readonly mark: string;
  /** Whom it runs as, if not as this process' own user. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
}

/** How a process ended: `exit code 1` or `SIGKILL`. */
export type ProcessEnd = string;

/**
 * MCP over the stdio of a process that is gone, with all of its group and what left it, within 2 s of {@link close}, and at once when
 * this process dies, however it dies.
 */
export class ProcessTransport implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: (message: JSONRPCMessage) => void;

  readonly #options: ProcessOptions;
  readonly #lines = new LineSplitter(MAX_MESSAGE_BYTES);
  readonly #exited = new Deferred<void>();
  readonly #closed = new Deferred<void>();
  #child: ChildProcess | undefined;
  #closing: Promise<void> | undefined;
  #errorOutput = "";
  #end: ProcessEnd | undefined;

  constructor(options: ProcessOptions) {
    this.#options = options;
  }

  /** How the process ended; undefined while it runs. */
  get end(): ProcessEnd | undefined {
    return this.#end;
  }

  /** The last lines that it wrote to stderr, without control sequences. */
  get errorLines(): string {
    const isCut = this.#errorOutput.length === KEPT_ERROR_CHARACTERS;
    // The cut may lie in a secret, whose end nobody would know for one.
    const output = isCut ? this.#errorOutput.replace(/^.*\n?/, "") : this.#errorOutput;
    return stripControls(output).trimEnd().split("\n").slice(-ERROR_LINES).join("\n");
  }

  start(): Promise<void> {
    const { executable, args, cwd, env, mark, user } = this.#options;
    if (!/^[0-9a-f]{32}$/.test(mark)) throw new Error("not a mark of a process"); // an empty one would be in every process
    const child = spawn("/bin/sh", ["-c", LAUNCHER, "sh", mark, executable, ...args], {
      cwd,
      env,
      detached: true,
      stdio: ["pipe", "pipe", "pipe", "pipe"],
      ...(user && { uid: user.uid, gid: user.gid }), // Linux takes every capability and supplementary group with that
    });
    this.#child = child;
    child.stdout.on("data", (chunk: Buffer) => this.#onOutput(chunk));
    child.stderr.on("data", (chunk: Buffer) => this.#onErrorOutput(chunk));
    for (const stream of child.stdio) stream?.on("error", (error) => this.onerror?.(error));
    child.once("exit", (code, signal) => {
      this.#end = signal ?? `exit code ${code ?? "unknown"}`;
      this.#exited.resolve();
      endWatchdog(child); // takes what the process left behind in its group along
    });
    void this.#finish(child);
    const started = new Deferred<void>();
    child.once("spawn", () => started.resolve());
    child.on("error", (error) => {
      started.reject(error);
      this.#exited.resolve();
    });
    return started.promise;
  }

  send(message: JSONRPCMessage): Promise<void> {
    const stdin = this.#child?.stdin;
    if (stdin?.writable !== true) {
      return Promise.reject(Object.assign(new Error("The process does not read any more"), { code: "EPIPE" }));
    }
    return new Promise((resolve, reject) => {
      stdin.write(`${wellFormed(restoreIntegers(JSON.stringify(message)))}\n`, (error) =>
        error ? reject(error) : resolve(),
      );
    });
  }

  /** Asks by the end of stdin, then by SIGTERM, then kills. Resolves when the process is gone. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    child.stdin?.end();
    await within(END_GRACE_MS, this.#exited.promise);
    if (this.#end === undefined) {
      signalGroup(child, "SIGTERM");
      await within(TERM_GRACE_MS, this.#exited.promise);
    }
    endWatchdog(child);
    if (this.#end === undefined) signalGroup(child, "SIGKILL");
    await within(OUTPUT_GRACE_MS, this.#closed.promise);
  }

  /** What the process wrote before its end is still read, unless a stray heir keeps the pipes open. */
  async #finish(child: ChildProcess): Promise<void> {
    const drained = new Promise<void>((resolve) => child.once("close", () => resolve()));
    await this.#exited.promise;
    await within(OUTPUT_GRACE_MS, drained);
    for (const stream of child.stdio) stream?.destroy();
    this.#closed.resolve();
    this.onclose?.();
  }

  #onOutput(chunk: Buffer): void {
    for (const line of this.#lines.push(chunk)) this.#onLine(line);
  }

  #onLine(line: Line): void {
    try {
      const message = line.kind === "line" ? parseMessage(line.bytes) : tooLargeMessage(line);
      if (message) this.onmessage?.(message);
    } catch {
      // Servers that log to stdout are common; what is no message is no reason to give up.
      this.onerror?.(new Error("The server wrote something to stdout that is no message"));
    }
  }

  #onErrorOutput(chunk: Buffer): void {
    this.#errorOutput = (this.#errorOutput + chunk.toString("utf8")).slice(-KEPT_ERROR_CHARACTERS);
  }
}

function parseMessage(bytes: Buffer): JSONRPCMessage | undefined {
  const text = bytes.toString("utf8").trimEnd();
  // The SDK's client checks every message itself, and reports what is none.
  return text === "" ? undefined : (JSON.parse(markResult(text)) as JSONRPCMessage);
}

/** In place of an answer that is too large to be read. */
function tooLargeMessage(line: Line & { kind: "oversize" }): JSONRPCMessage | undefined {
  const id = idOfOversize(line);
  if (id === undefined) return undefined;
  const error = { code: RESULT_TOO_LARGE, message: `The answer is larger than ${MAX_MESSAGE_BYTES} bytes` };
  return { jsonrpc: "2.0", id, error };
}

function endWatchdog(child: ChildProcess): void {
  const watchdog: Readable | Writable | null | undefined = child.stdio[3];
  watchdog?.destroy();
}

/** Only while the leader has not been reaped: afterwards the group's id may belong to others. */
function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // gone in this very moment
  }
}
