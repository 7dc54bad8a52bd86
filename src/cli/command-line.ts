import { parseArgs } from "node:util";

import type { Given } from "../config/load.ts";
import { type CommandName, flagName, type Option, OPTION_NAMES, type OptionName, OPTIONS } from "../config/options.ts";

/** A flag that belongs to one command and is no configuration: `--json`, `--all`. */
export interface OwnFlag {
  readonly name: string;
  /** How its value is shown; absent for switches. */
  readonly value?: string;
  readonly help: string;
}

export interface CommandSyntax {
  readonly name: CommandName;
  /** Its positional argument, which it then requires. */
  readonly operand?: string;
  readonly own: readonly OwnFlag[];
}

export interface ParsedCommandLine {
  /** What was given for options of the configuration: text, lists of text, or true. */
  readonly flags: Given;
  readonly own: Readonly<Record<string, string | true>>;
  readonly operand: string | undefined;
  readonly problems: readonly string[];
}

export const COMMON_FLAGS: readonly OwnFlag[] = [
  { name: "config", value: "PATH", help: "Configuration file (default $XDG_CONFIG_HOME/ipybox/config.json)" },
  { name: "help", help: "Show this text" },
];

/** Reads the whole line before it complains: every problem is in the result. */
export function parseCommandLine(args: readonly string[], syntax: CommandSyntax): ParsedCommandLine {
  const names = new Map<string, OptionName>(optionsOf(syntax.name).map((name) => [flagName(name), name]));
  const ownFlags = new Map([...COMMON_FLAGS, ...syntax.own].map((flag) => [flag.name, flag]));
  const takesValue = (flag: string) => {
    const name = names.get(flag);
    return name === undefined ? ownFlags.get(flag)?.value !== undefined : (OPTIONS[name] as Option).value !== undefined;
  };
  const { tokens } = parseArgs({
    args: withBareValues(args, names),
    strict: false,
    allowPositionals: true,
    tokens: true,
    options: Object.fromEntries(
      [...names.keys(), ...ownFlags.keys()].map((flag) => [flag, { type: takesValue(flag) ? "string" : "boolean" }]),
    ),
  });

  const flags: Given = {};
  const own: Record<string, string | true> = {};
  const operands: string[] = [];
  const problems: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") operands.push(token.value);
    if (token.kind !== "option") continue;
    const { name: flag, rawName, value, inlineValue } = token;
    const name = names.get(flag);
    if (rawName === "-h") own["help"] = true;
    else if (!rawName.startsWith("--") || (name === undefined && !ownFlags.has(flag)))
      problems.push(`unknown option ${rawName}`);
    else if (takesValue(flag) && (value === undefined || (!inlineValue && value.startsWith("--"))))
      problems.push(`${rawName} needs a value`);
    else if (!takesValue(flag) && inlineValue === true) problems.push(`${rawName} takes no value`);
    else if (name === undefined) own[flag] = value ?? true;
    else
      flags[name] = (OPTIONS[name] as Option).repeatable === true ? [...listOf(flags[name]), value] : (value ?? true);
  }
  const [operand, ...excess] = operands;
  if (syntax.operand === undefined && operand !== undefined) excess.unshift(operand);
  if (syntax.operand !== undefined && operand === undefined && own["help"] === undefined)
    problems.push(`${syntax.operand} is missing`);
  problems.push(...excess.map((text) => `unexpected argument ${JSON.stringify(text)}`));
  return { flags, own, operand, problems };
}

/** The options of the configuration that a command has. */
export function optionsOf(command: CommandName): OptionName[] {
  return OPTION_NAMES.filter((name) => command === "serve" || (OPTIONS[name] as Option).commands.includes(command));
}

/** Flags that need no value get the one that they then mean, at the end of the line or before another flag. */
function withBareValues(args: readonly string[], names: ReadonlyMap<string, OptionName>): string[] {
  return args.map((argument, index) => {
    const name = argument.startsWith("--") ? names.get(argument.slice(2)) : undefined;
    const bare = name === undefined ? undefined : (OPTIONS[name] as Option).bare;
    return bare !== undefined && (args[index + 1] ?? "-").startsWith("-") ? `${argument}=${bare}` : argument;
  });
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
