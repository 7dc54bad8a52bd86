import { readFileSync } from "node:fs";
import { join } from "node:path";

import { expect, test } from "vitest";
import { z } from "zod";

// Plain JavaScript, so that it runs without a build step.
// @ts-expect-error -- it has no declarations
import { withTables } from "../../docs/readme-tables.mjs";
import { parseCommandLine } from "../../src/cli/command-line.ts";
import { COMMANDS } from "../../src/cli/commands.ts";
import { ERROR_CODES } from "../../src/common/errors.ts";
import { flagName, OPTIONS, variableName } from "../../src/config/options.ts";

const readme = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8");

test("the README's tables are what the code says (`make readme` writes them)", () => {
  const generate = withTables as (text: string, code: object) => string;
  expect(readme).toBe(generate(readme, { OPTIONS, flagName, variableName, ERROR_CODES }));
});

test("the README's configurations for clients are JSON, and their arguments are ours", () => {
  const blocks = [...readme.matchAll(/```json\n([\s\S]*?)```/g)].map(([, block = ""]) =>
    configuration.parse(JSON.parse(block)),
  );
  const started = blocks.map(({ mcpServers, servers }) => (mcpServers ?? servers)?.["ipybox"]);
  expect(started.length).toBeGreaterThan(1);
  for (const server of started) {
    expect(server?.command).toBe("/path/to/ipybox/dist/cli/main.js");
    expect(parseCommandLine(server?.args ?? [], COMMANDS.serve).problems).toEqual([]);
  }
});

const servers = z.record(z.string(), z.object({ command: z.string(), args: z.array(z.string()) }));
const configuration = z.object({ mcpServers: servers.optional(), servers: servers.optional() });
