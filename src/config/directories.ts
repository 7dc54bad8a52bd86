import { homedir } from "node:os";
import { posix, win32 } from "node:path";

type Environment = Readonly<Record<string, string | undefined>>;

/** What the places depend on besides the environment. */
export interface DirectoryHost {
  readonly platform: NodeJS.Platform;
  readonly home: string;
}

const here = (): DirectoryHost => ({ platform: process.platform, home: homedir() });

/**
 * Registrations, locks, caches; 0700 and never in a workspace. `$XDG_STATE_HOME/ipybox` or `~/.local/state/ipybox`; on
 * Windows `%LOCALAPPDATA%\ipybox`, which does not roam.
 */
export function stateDirectory(env: Environment, host = here()): string {
  return ownDirectory(env, host, { variable: "XDG_STATE_HOME", below: ".local/state", windows: "LOCALAPPDATA" });
}

/** The default `--config`: `$XDG_CONFIG_HOME/ipybox/config.json` or `~/.config/…`; on Windows `%APPDATA%\ipybox\config.json`. */
export function defaultConfigFile(env: Environment, host = here()): string {
  const directory = ownDirectory(env, host, { variable: "XDG_CONFIG_HOME", below: ".config", windows: "APPDATA" });
  return pathsOf(host).join(directory, "config.json");
}

/** `$XDG_RUNTIME_DIR/ipybox`, or undefined: the engine then makes a private temporary directory. */
export function runtimeDirectory(env: Environment): string | undefined {
  return env["XDG_RUNTIME_DIR"] ? posix.join(env["XDG_RUNTIME_DIR"], "ipybox") : undefined;
}

interface Place {
  /** An empty variable counts as an unset one, as the XDG specification has it. */
  readonly variable: string;
  readonly below: string;
  readonly windows: string;
}

function ownDirectory(env: Environment, host: DirectoryHost, { variable, below, windows }: Place): string {
  const paths = pathsOf(host);
  const fallback = host.platform === "win32" ? env[windows] : undefined;
  const named = [env[variable], fallback].find((path) => path !== undefined && path !== "");
  return paths.join(named ?? paths.join(host.home, below), "ipybox");
}

function pathsOf({ platform }: DirectoryHost): typeof posix {
  return platform === "win32" ? win32 : posix;
}
