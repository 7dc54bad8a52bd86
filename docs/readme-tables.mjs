// The tables of README.md that are generated from the code and from bench/results.json. `make readme` rewrites them; a unit test finds them stale.
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { formatReport } from "../bench/report.mjs";

const README = join(import.meta.dirname, "../README.md");

if (process.argv[1] === import.meta.filename) {
  const [{ OPTIONS, flagName, variableName }, { ERROR_CODES }] = await Promise.all([
    import("../dist/config/options.js"),
    import("../dist/common/errors.js"),
  ]);
  const text = readFileSync(README, "utf8");
  writeFileSync(README, withTables(text, { OPTIONS, flagName, variableName, ERROR_CODES }));
}

/** The README's text with every generated table up to date. */
export function withTables(text, { OPTIONS, flagName, variableName, ERROR_CODES }) {
  const results = JSON.parse(readFileSync(join(import.meta.dirname, "../bench/results.json"), "utf8"));
  const options = Object.entries(OPTIONS).map(([name, { value, help, repeatable, default: fallback, defaultText }]) => [
    `\`--${flagName(name)}${value ? ` ${value.replaceAll("|", "\\|")}` : ""}\``,
    `\`${variableName(name)}\``,
    defaultText ?? (fallback === undefined ? "" : `\`${fallback}\``),
    repeatable ? `${help}; repeatable` : help,
  ]);
  const codes = Object.entries(ERROR_CODES).map(([code, meaning]) => [`\`${code}\``, meaning]);
  return [
    ["options", table(["option", "environment", "default", "meaning"], options)],
    ["errors", table(["code", "meaning"], codes)],
    ["performance", formatReport(results)],
  ].reduce((result, [name, rows]) => replaceBetween(result, name, rows), text);
}

function replaceBetween(text, name, content) {
  const [start, end] = [`<!-- generated: ${name} -->`, `<!-- end: ${name} -->`];
  const from = text.indexOf(start);
  const to = text.indexOf(end);
  if (from < 0 || to < from) throw new Error(`README.md has no place for the table of ${name}`);
  return `${text.slice(0, from + start.length)}\n\n${content}\n\n${text.slice(to)}`;
}

function table(header, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}
