import { mkdirSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";

/** Where tests keep what takes long to make and is the same for all of them. */
const CACHE = resolve(import.meta.dirname, "../../node_modules/.cache/ipybox-tests");

/** Lets a state directory use the Python environments of all tests, for engines without containers. */
export function shareEnvironments(stateDir: string): void {
  const shared = join(CACHE, "environments");
  mkdirSync(shared, { recursive: true });
  mkdirSync(join(stateDir, "local"), { recursive: true, mode: 0o700 });
  symlinkSync(shared, join(stateDir, "local", "environments"));
}
