import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { text } from "node:stream/consumers";

import { openApp } from "../app.ts";
import { pathReasonOf } from "../common/errors.ts";
import { stripControls } from "../common/logger.ts";
import type { Invocation } from "./invocation.ts";
import { interruptSignal } from "./signals.ts";
import { StepDisplay } from "./step-display.ts";

/** The longest that a cell may have. */
const TIMEOUT_MS = 86_400_000;

/** Runs a Python file as one cell in a fresh sandbox; exit code 0, or 1 when the cell failed. */
export async function run({ config, operand = "-" }: Invocation): Promise<number> {
  const code = operand === "-" ? await text(process.stdin) : readFileSync(operand, "utf8");
  await using app = await openApp(config.logLevel === "info" ? { ...config, logLevel: "warn" } : config);
  app.start();
  using display = new StepDisplay(process.stderr);
  const terminal = new TerminalOutput(() => display.finish());
  const result = await app.session.executeCell(code, {
    timeoutMs: TIMEOUT_MS,
    maxOutputChars: Number.MAX_SAFE_INTEGER,
    signal: interruptSignal(),
    patient: true,
    onStep: (message) => display.show({ message }),
    onText: (chunk) => terminal.write(chunk),
    onToolProgress: () => undefined,
  });
  display.finish();
  terminal.end();
  for (const { path } of result.pictures) if (path !== undefined) process.stderr.write(`Generated image: ${path}\n`);
  for (const notice of result.notices) process.stderr.write(`${notice}\n`);
  return result.status === "ok" ? 0 : 1;
}

/** Only looked at, not read: a pipe gives its content once. */
export function findSourceProblems(path: string): string[] {
  if (path === "-") return [];
  try {
    accessSync(path, constants.R_OK);
    return statSync(path).isDirectory() ? [`${path} is a directory: name a Python file, or - for standard input`] : [];
  } catch (error) {
    return [`${path} can't be read: ${pathReasonOf(error)}`];
  }
}

/** Streams what the sandbox wrote without the control sequences that a terminal would act on; carriage returns stay. */
class TerminalOutput {
  readonly #beforeFirst: () => void;
  #started = false;
  #atLineStart = true;

  constructor(beforeFirst: () => void) {
    this.#beforeFirst = beforeFirst;
  }

  write(chunk: string): void {
    if (!this.#started) this.#beforeFirst();
    this.#started = true;
    const clean = chunk.split("\r").map(stripControls).join("\r");
    if (clean === "") return;
    this.#atLineStart = clean.endsWith("\n");
    process.stdout.write(clean);
  }

  end(): void {
    if (!this.#atLineStart) process.stdout.write("\n");
  }
}
