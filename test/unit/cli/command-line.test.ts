import { describe, expect, test } from "vitest";

import { parseCommandLine } from "../../../src/cli/command-line.ts";

const serve = { name: "serve", own: [] } as const;
const run = { name: "run", operand: "FILE", own: [] } as const;

describe("parseCommandLine", () => {
  test("collects options, repeated ones as lists", () => {
    const { flags, problems } = parseCommandLine(
      ["--memory", "1g", "--mask=a", "--mask", "b", "--allow-workspace-upstream"],
      serve,
    );
    expect(problems).toEqual([]);
    expect(flags).toEqual({ memory: "1g", mask: ["a", "b"], allowWorkspaceUpstream: true });
  });

  test("takes --sandbox without a value for srt, at the end and before another flag", () => {
    for (const line of [["--sandbox"], ["--sandbox", "--memory", "1g"]])
      expect(parseCommandLine(line, serve)).toMatchObject({ flags: { sandbox: "srt" }, problems: [] });
    expect(parseCommandLine(["--sandbox", "none"], serve).flags).toEqual({ sandbox: "none" });
  });

  test("takes --no-redact as an option with a value, not as a negation", () => {
    expect(parseCommandLine(["--no-redact", "MODE"], serve).flags).toEqual({ noRedact: ["MODE"] });
  });

  test("lists every problem at once", () => {
    const { problems } = parseCommandLine(
      ["--bogus", "--memory", "--cpus", "2", "--allow-workspace-upstream=yes", "stray", "-x"],
      serve,
    );
    expect(problems).toEqual([
      "unknown option --bogus",
      "--memory needs a value",
      "--allow-workspace-upstream takes no value",
      "unknown option -x",
      'unexpected argument "2"',
      'unexpected argument "stray"',
    ]);
  });

  test("takes the operand of a command, and misses it", () => {
    expect(parseCommandLine(["--memory", "1g", "file.py"], run)).toMatchObject({ operand: "file.py", problems: [] });
    expect(parseCommandLine(["-"], run)).toMatchObject({ operand: "-", problems: [] });
    expect(parseCommandLine([], run).problems).toEqual(["FILE is missing"]);
  });

  test("knows only the options of its command", () => {
    expect(parseCommandLine(["--registration", "allow", "x.py"], run).problems).toContain(
      "unknown option --registration",
    );
  });
});
