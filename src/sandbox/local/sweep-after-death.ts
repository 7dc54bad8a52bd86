import { programFile } from "../../common/package-files.ts";
import type { AfterDeath } from "../link/run-directory.ts";

/** What a server that was killed can't do itself: an init that is stuck does not end with its lifeline. */
export function sweepAfterDeath(stateDir: string): AfterDeath {
  return { command: [process.execPath, "--", programFile("sandbox/local/sweep-dead-owners"), stateDir], env: {} };
}
