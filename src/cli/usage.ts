import { flagName, type Option, type OptionName, OPTIONS } from "../config/options.ts";
import { COMMON_FLAGS, type CommandSyntax, optionsOf } from "./command-line.ts";

const COLUMN = 34;

/** The usage text of one command. */
export function usageOf(syntax: CommandSyntax, summary: string): string {
  const operand = syntax.operand === undefined ? "" : ` ${syntax.operand}`;
  const flags = [...syntax.own, ...COMMON_FLAGS].map((flag) =>
    row(`--${flag.name}${flag.value === undefined ? "" : ` ${flag.value}`}`, flag.help),
  );
  const options = optionsOf(syntax.name).map((name) =>
    row(optionSyntax(name), `${OPTIONS[name].help}${defaultOf(OPTIONS[name])}`),
  );
  return [
    `Usage: ipybox ${syntax.name === "serve" ? "[serve]" : syntax.name} [options]${operand}`,
    "",
    summary,
    "",
    "Options (each also IPYBOX_<NAME> in the environment and a key of the configuration file):",
    ...options,
    ...flags,
    "",
  ].join("\n");
}

/** `--memory SIZE`. */
function optionSyntax(name: OptionName): string {
  const { value } = OPTIONS[name] as Option;
  return `--${flagName(name)}${value === undefined ? "" : ` ${value}`}`;
}

function defaultOf(option: Option): string {
  const text = (option.defaultText ?? option.default)?.replaceAll("`", "");
  const repeatable = option.repeatable === true ? "; repeatable" : "";
  return text === undefined ? (repeatable === "" ? "" : " (repeatable)") : ` (default ${text}${repeatable})`;
}

function row(syntax: string, help: string): string {
  const left = `  ${syntax}`;
  return left.length < COLUMN ? `${left.padEnd(COLUMN)}${help}` : `${left}\n${" ".repeat(COLUMN)}${help}`;
}
