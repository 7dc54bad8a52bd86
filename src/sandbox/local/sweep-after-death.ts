import { programFile } from "../../common/package-files.ts";
import type { AfterDeath } from "../link/run-directory.ts";

/** What a server that was killed can't do itself: an init that is stuck does not end with its lifeline. */
export function sweepAfterDeath(directories: { readonly stateDir: string; readonly dataDir: string }): AfterDeath {
  const { stateDir, dataDir } = directories;
  const program = programFile("sandbox/local/sweep-dead-owners");
  return { command: [process.execPath, "--", program, stateDir, dataDir], env: {} };
}
