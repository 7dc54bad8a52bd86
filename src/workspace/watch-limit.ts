import { readFileSync } from "node:fs";

/**
 * How many directories one watcher may watch: more than any project has, and at most half of what Linux admits to all
 * programs of a user together, which a cell that makes directories must not take from editors and builds.
 */
export function readWatchLimit(): number {
  try {
    const ofUser = Number(readFileSync("/proc/sys/fs/inotify/max_user_watches", "utf8"));
    return Math.min(MAX_DIRECTORIES, Math.floor(ofUser / 2));
  } catch {
    return MAX_DIRECTORIES_ELSEWHERE;
  }
}

const MAX_DIRECTORIES = 65_536;
/** On macOS each further watch makes Node.js hand all of them to the system anew. */
const MAX_DIRECTORIES_ELSEWHERE = 4096;
