#!/usr/bin/env -S node --
import { IpyboxError, messageOf } from "../common/errors.ts";
import { stripControls } from "../common/logger.ts";
import { restoreInitialEnvironment } from "../config/initial-environment.ts";
import { loadConfig } from "../config/load.ts";
import { VERSION } from "../version.ts";
import { parseCommandLine } from "./command-line.ts";
import { type Command, COMMANDS } from "./commands.ts";
import { usageOf } from "./usage.ts";

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

restoreInitialEnvironment(process.argv);
// Whoever read it is gone (`ipybox doctor | head`, a client without a log): what has to end for it, ends by itself.
for (const stream of [process.stdout, process.stderr]) stream.on("error", () => undefined);
process.exitCode = await main(process.argv.slice(2));

async function main(argv: readonly string[]): Promise<number> {
  const [first, ...rest] = argv;
  if (first === "--version") return print(VERSION);
  if (first === "--help" || first === "-h" || first === "help") return print(overview());
  const named = commandNamed(first);
  if (named === undefined && first !== undefined && !first.startsWith("-")) {
    return complain([`unknown command ${JSON.stringify(first)}`], "ipybox --help");
  }
  return runCommand(named ?? COMMANDS.serve, named === undefined ? argv : rest);
}

async function runCommand(command: Command, args: readonly string[]): Promise<number> {
  const { flags, own, operand, problems: ofLine } = parseCommandLine(args, command);
  if (own["help"] !== undefined) return print(usageOf(command, command.summary));
  const configFile = typeof own["config"] === "string" ? own["config"] : undefined;
  const loaded = loadConfig({ flags, env: process.env, configFile });
  const ofOperand = operand === undefined ? undefined : await command.findOperandProblems?.(operand);
  const problems = [...ofLine, ...(ofOperand ?? []), ...(loaded.problems ?? [])];
  if (loaded.config === undefined || problems.length > 0) {
    const deeper = await command.findProblems?.(loaded.config ?? loaded.sound);
    return complain([...problems, ...(deeper ?? [])], `ipybox ${command.name} --help`);
  }
  try {
    return await command.run({ config: loaded.config, own, operand });
  } catch (error) {
    if (!(error instanceof IpyboxError)) throw error;
    const usage = error.code === "invalid-configuration" || error.code === "invalid-workspace";
    if (usage) return complain(error.message.split("\n"), error.hint);
    const hint = error.hint === undefined ? "" : `Hint: ${error.hint}\n`;
    process.stderr.write(stripControls(`ipybox: ${error.message}\n${hint}`));
    return EXIT_FAILED;
  }
}

function overview(): string {
  const rows = Object.values(COMMANDS).map(({ name, operand, summary }) => {
    const syntax = `  ipybox ${name === "serve" ? "[serve]" : name}${operand === undefined ? "" : ` ${operand}`}`;
    return `${syntax.padEnd(26)}${summary}`;
  });
  return [
    "ipybox: an MCP server that gives an agent a stateful IPython kernel in a sandbox",
    "",
    ...rows,
    "",
    "`ipybox <command> --help` shows a command's options; `ipybox --version` the version.",
  ].join("\n");
}

function commandNamed(name: string | undefined): Command | undefined {
  return Object.values(COMMANDS).find((command) => command.name === name);
}

function print(text: string): number {
  process.stdout.write(text.endsWith("\n") ? text : `${text}\n`);
  return 0;
}

function complain(problems: readonly string[], hint: string | undefined): number {
  for (const problem of problems) process.stderr.write(`ipybox: ${messageOf(problem)}\n`);
  if (hint !== undefined) process.stderr.write(hint.startsWith("ipybox ") ? `See ${hint}\n` : `Hint: ${hint}\n`);
  return EXIT_USAGE;
}
