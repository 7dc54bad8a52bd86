import { homedir } from "node:os";
import { join } from "node:path";

/** `$XDG_STATE_HOME/ipybox`: registrations, locks, caches; 0700 and never in a workspace. */
export function stateDirectory(env: Readonly<Record<string, string | undefined>>): string {
  // The XDG specification treats an empty variable as an unset one.
  const base = env["XDG_STATE_HOME"] === "" ? undefined : env["XDG_STATE_HOME"];
  return join(base ?? join(homedir(), ".local", "state"), "ipybox");
}

/** `$XDG_RUNTIME_DIR/ipybox`, or undefined: the engine then makes a private temporary directory. */
export function runtimeDirectory(env: Readonly<Record<string, string | undefined>>): string | undefined {
  return env["XDG_RUNTIME_DIR"] ? join(env["XDG_RUNTIME_DIR"], "ipybox") : undefined;
}
