import { readFileSync } from "node:fs";

/**
 * Undoes what Node did to `process.env` before our first line: started as `node main.js --env-file PATH`, Node 20 takes
 * the flag behind the script for its own and merges the file. Our shebang prevents that (`node --`); a client that names
 * `node` itself does not. Where there is no /proc, nothing is known and nothing done.
 */
export function restoreInitialEnvironment(argv: readonly string[]): void {
  if (!argv.some((argument) => argument === "--env-file" || argument.startsWith("--env-file="))) return;
  const initial = readInitialEnvironment();
  if (initial === undefined) return;
  for (const name of Object.keys(process.env)) {
    if (!initial.has(name)) Reflect.deleteProperty(process.env, name);
  }
}

function readInitialEnvironment(): ReadonlySet<string> | undefined {
  try {
    const entries = readFileSync("/proc/self/environ", "utf8").split("\0");
    return new Set(entries.map((entry) => entry.slice(0, entry.indexOf("="))));
  } catch {
    return undefined;
  }
}
