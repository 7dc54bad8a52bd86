import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { lock } from "proper-lockfile";
import { systemCodeOf } from "../common/errors.ts";

export interface BuildLockOptions {
  readonly stateDir: string;
  /** What is built. */
  readonly name: string;
  readonly signal: AbortSignal;
  /** Called once if another process holds the lock. */
  readonly onWait: () => void;
}

/** A holder that died without releasing is noticed after this. */
const STALE_MS = 15_000;
/** A file lock announces nothing, so waiting for one is asking again. */
const RETRY_MS = 250;

/** Runs `work` while no other process of this user does the same; waits for one that does. */
export async function withBuildLock<T>(options: BuildLockOptions, work: () => Promise<T>): Promise<T> {
  const release = await takeLock(options);
  try {
    return await work();
  } finally {
    await release().catch(() => undefined); // it was taken from us: no longer ours to release
  }
}

async function takeLock(options: BuildLockOptions): Promise<() => Promise<void>> {
  const directory = join(options.stateDir, "locks");
  await mkdir(directory, { recursive: true, mode: 0o700 });
  for (let waiting = false; ; waiting = true) {
    try {
      return await lock(join(directory, options.name), {
        realpath: false,
        stale: STALE_MS,
        onCompromised: () => undefined, // at worst two processes build the same image; the tag is the same
      });
    } catch (error) {
      if (systemCodeOf(error) !== "ELOCKED") throw error;
      if (!waiting) options.onWait();
      await delay(RETRY_MS, undefined, { signal: options.signal });
    }
  }
}
