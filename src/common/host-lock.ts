import { readFile, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { lock } from "proper-lockfile";
import { IpyboxError, systemCodeOf } from "./errors.ts";
import { currentProcess, formatIdentity, livenessOf, parseIdentity } from "./process-identity.ts";
import { makeStateDirectory, stateUnusable } from "./state-directory.ts";

export interface HostLockOptions {
  readonly signal?: AbortSignal | undefined;
  /** Called once where another living server holds the lock. */
  readonly onWaiting?: () => void;
}

/**
 * Runs `work` while no other process of this host, nor another caller of this one, does under the same `path`. The lock
 * is made of files beside that, in the state directory. Waits as long as another living server holds it: that of a dead
 * one is taken at once. `lost` is aborted when the lock was lost (the machine slept, its directory vanished): stop then.
 * Rejects with the signal's reason when that is aborted while it waits, with `state-unusable` where there can be no files.
 */
export async function withHostLock<T>(
  path: string,
  options: HostLockOptions,
  work: (lost: AbortSignal) => Promise<T>,
): Promise<T> {
  const lost = new AbortController();
  const release = await takeLock(path, options, lost);
  try {
    return await work(lost.signal);
  } finally {
    if (!lost.signal.aborted) await release(); // one that was lost is nobody's to release
  }
}

type Release = () => Promise<void>;

async function takeLock(path: string, options: HostLockOptions, lost: AbortController): Promise<Release> {
  await makeStateDirectory(dirname(path));
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    options.signal?.throwIfAborted();
    const release = await tryLock(path, lost);
    if (release) return release;
    if (pauseMs === FIRST_PAUSE_MS) options.onWaiting?.();
    // Another process's lock makes no event.
    await delay(pauseMs, undefined, { ...(options.signal && { signal: options.signal }) });
  }
}

/** Under a lock of its own, so that nobody takes the lock of a living one for that of the dead one before it. */
async function tryLock(path: string, lost: AbortController): Promise<Release | undefined> {
  const guard = await hold(`${path}.guard`, GUARD_STALE_MS, () => undefined);
  if (guard === undefined) return undefined;
  try {
    const owner = `${path}.owner`;
    await removeLockOfDead(path, owner);
    const release = await hold(path, STALE_MS, (error) => lost.abort(lockLost(error)));
    if (release === undefined) return undefined;
    try {
      await writeFile(owner, formatIdentity(currentProcess()), { mode: 0o600 });
    } catch (error) {
      await release();
      throw stateUnusable(error);
    }
    return async () => {
      await rm(owner, { force: true });
      await release();
    };
  } finally {
    await guard();
  }
}

/** Whose end nobody can judge, of another machine or PID namespace, is waited for until it is stale. */
async function removeLockOfDead(path: string, ownerFile: string): Promise<void> {
  const owner = parseIdentity(await readFile(ownerFile, "utf8").catch(() => ""));
  if (owner === undefined || livenessOf(owner) !== "dead") return;
  await rm(ownerFile, { force: true });
  await rm(`${path}.lock`, { recursive: true, force: true });
}

/** Undefined while somebody else holds it. */
async function hold(path: string, stale: number, onCompromised: (error: Error) => void): Promise<Release | undefined> {
  try {
    return await lock(path, { realpath: false, stale, update: stale / 3, onCompromised });
  } catch (error) {
    if (systemCodeOf(error) === "ELOCKED") return undefined;
    throw stateUnusable(error);
  }
}

function lockLost(cause: Error): IpyboxError {
  return new IpyboxError("state-unusable", "A lock in the state directory was lost", { hint: "Call again", cause });
}

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 200;
const STALE_MS = 15_000;
/** It is held for milliseconds. */
const GUARD_STALE_MS = 5000;
