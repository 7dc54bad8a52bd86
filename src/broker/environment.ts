import { cleanPath } from "./host-paths.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

const INHERITED = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"] as const;

/**
 * The whole environment of a stdio upstream: six variables of the server's own, what `server_params.env` gives, a PATH
 * that a cell can't plant programs on, and git's hooks and fsmonitor off. `mark` is part of a value, so that every
 * descendant can be told from other processes.
 */
export function upstreamEnvironment(
  host: Environment,
  given: Readonly<Record<string, string>>,
  writableDirectories: readonly string[],
  mark: string,
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of INHERITED) {
    const value = host[name];
    if (value !== undefined) env[name] = value;
  }
  Object.assign(env, given);
  if (env["PATH"] !== undefined) env["PATH"] = cleanPath(env["PATH"], writableDirectories);
  return { ...env, ...gitSettings(given, mark) };
}

/**
 * A repository in the workspace must not run a program of its own choice in an upstream that only reads it. Ours come
 * after any settings that were given: the last one counts. Below /dev/null there is no file, whatever its name.
 */
function gitSettings(given: Readonly<Record<string, string>>, mark: string): Record<string, string> {
  const ours = [
    ["core.hooksPath", `/dev/null/${mark}`],
    ["core.fsmonitor", "false"],
  ] as const;
  const count = Number.parseInt(given["GIT_CONFIG_COUNT"] ?? "0", 10);
  const first = Number.isInteger(count) && count > 0 ? count : 0;
  const settings: Record<string, string> = { GIT_CONFIG_COUNT: String(first + ours.length) };
  for (const [index, [key, value]] of ours.entries()) {
    settings[`GIT_CONFIG_KEY_${first + index}`] = key;
    settings[`GIT_CONFIG_VALUE_${first + index}`] = value;
  }
  return settings;
}
