import { cleanPath } from "./host-paths.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

const INHERITED = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"] as const;

/** A repository in the workspace must not run a program of its own choice in an upstream that only reads it. */
const GIT_SETTINGS = [
  ["core.hooksPath", "/dev/null"],
  ["core.fsmonitor", "false"],
] as const;

/**
 * The whole environment of a stdio upstream: six variables of the server's own, what `server_params.env` gives, a PATH
 * that a cell can't plant programs on, and git's hooks and fsmonitor off.
 */
export function upstreamEnvironment(
  host: Environment,
  given: Readonly<Record<string, string>>,
  writableDirectories: readonly string[],
): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of INHERITED) {
    const value = host[name];
    if (value !== undefined) env[name] = value;
  }
  Object.assign(env, given);
  if (env["PATH"] !== undefined) env["PATH"] = cleanPath(env["PATH"], writableDirectories);
  return { ...env, ...gitSettings(given) };
}

/** Ours come after any that were given: the last one counts. */
function gitSettings(given: Readonly<Record<string, string>>): Record<string, string> {
  const count = Number.parseInt(given["GIT_CONFIG_COUNT"] ?? "0", 10);
  const first = Number.isInteger(count) && count > 0 ? count : 0;
  const settings: Record<string, string> = { GIT_CONFIG_COUNT: String(first + GIT_SETTINGS.length) };
  for (const [index, [key, value]] of GIT_SETTINGS.entries()) {
    settings[`GIT_CONFIG_KEY_${first + index}`] = key;
    settings[`GIT_CONFIG_VALUE_${first + index}`] = value;
  }
  return settings;
}
