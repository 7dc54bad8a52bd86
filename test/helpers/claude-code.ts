import { execFile } from "node:child_process";
import { promisify } from "node:util";

import { baseEnvironment, type TestDirectory } from "./client.ts";
import { installClientPrograms } from "./client-programs.ts";

const run = promisify(execFile);

/** Resolves to what it printed to both streams; rejects when it failed. */
export type ClaudeCode = (...args: readonly string[]) => Promise<string>;

/** Claude Code as its makers publish it, without an account, with all that it keeps in the test's directory. */
export function claudeCode(
  directory: TestDirectory,
  { project, env }: { readonly project: string; readonly env?: Readonly<Record<string, string>> },
): ClaudeCode {
  const { claude } = installClientPrograms();
  const environment = {
    ...baseEnvironment(directory),
    HOME: directory.make("home"),
    DISABLE_AUTOUPDATER: "1",
    MCP_TIMEOUT: "120000", // milliseconds; the first start of a plugin installs it
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    ...env,
  };
  return async (...args) => {
    const { stdout, stderr } = await run(claude, args, { cwd: project, env: environment });
    return stdout + stderr;
  };
}
