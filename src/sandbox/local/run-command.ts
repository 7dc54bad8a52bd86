import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { stripControls } from "../../common/logger.ts";
import { LogTail } from "../log-tail.ts";

export interface CommandOptions {
  readonly env: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  /** Each line of its output, without control sequences. */
  readonly onLine?: (line: string) => void;
}

/** A program ended with another code than 0, or could not be started; the message has its last lines. */
export class CommandFailure extends Error {
  constructor(program: string, reason: string, lastLines: string) {
    super(`${program} ${reason}${lastLines === "" ? "" : `\n${lastLines}`}`);
    this.name = "CommandFailure";
  }
}

const KEPT_CHARS = 16 * 1024;
const KEPT_LINES = 20;

/** Runs a program to its end and resolves to what it wrote to stdout. Rejects with the signal's reason when aborted. */
export async function runCommand([program = "", ...args]: readonly string[], options: CommandOptions): Promise<string> {
  options.signal.throwIfAborted();
  const child = spawn(program, args, { env: options.env, cwd: "/", stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => child.kill("SIGKILL");
  options.signal.addEventListener("abort", kill, { once: true });
  const tail = new LogTail(KEPT_CHARS);
  let output = "";
  child.stdout.on("data", (chunk: Buffer) => (output = (output + chunk.toString()).slice(-KEPT_CHARS)));
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      tail.append(`${line}\n`);
      options.onLine?.(stripControls(line));
    });
  }
  try {
    const reason = await new Promise<string | undefined>((resolve) => {
      child.once("error", (error) => resolve(`can't be started: ${error.message}`));
      child.once("close", (code, signal) => resolve(code === 0 ? undefined : `ended with ${signal ?? `code ${code}`}`));
    });
    options.signal.throwIfAborted();
    if (reason !== undefined) throw new CommandFailure(program, reason, tail.lines(KEPT_LINES));
    return output;
  } finally {
    options.signal.removeEventListener("abort", kill);
  }
}
