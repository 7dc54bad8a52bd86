import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { lock } from "proper-lockfile";
import { IpyboxError, messageOf, systemCodeOf } from "../common/errors.ts";
import { currentProcess, formatIdentity, livenessOf, parseIdentity } from "../common/process-identity.ts";

export interface InstallLock extends AsyncDisposable {
  /** Aborted when the lock was lost (the machine slept, the directory vanished): stop what it guards. */
  readonly lost: AbortSignal;
}

/**
 * One install at a time in a workspace, across servers. `directory` is made when needed. Waits as long as another
 * living server holds the lock, and rejects with the signal's reason when that is aborted.
 */
export async function acquireInstallLock(
  directory: string,
  options: { readonly signal: AbortSignal; readonly onWaiting: () => void },
): Promise<InstallLock> {
  await mkdir(directory, { recursive: true, mode: 0o700 });
  const lost = new AbortController();
  for (let waited = false; ; waited = true) {
    options.signal.throwIfAborted();
    const release = await tryLock(directory, lost);
    if (release) return { lost: lost.signal, [Symbol.asyncDispose]: release };
    if (!waited) options.onWaiting();
    // Another process's lock makes no event.
    await delay(RETRY_MS, undefined, { signal: options.signal });
  }
}

/** Under a lock of its own, so that nobody takes the lock of a living one for that of the dead one before it. */
async function tryLock(directory: string, lost: AbortController): Promise<(() => Promise<void>) | undefined> {
  const guard = await hold(`${directory}/install.guard`, GUARD_STALE_MS, () => undefined);
  if (guard === undefined) return undefined;
  try {
    const [file, owner] = [`${directory}/install`, `${directory}/install.owner`];
    await removeLockOfDead(file, owner);
    const release = await hold(file, STALE_MS, (error) =>
      lost.abort(new IpyboxError("install-failed", "The install lock was lost", { hint: "Call again", cause: error })),
    );
    if (release === undefined) return undefined;
    await writeFile(owner, formatIdentity(currentProcess()), { mode: 0o600 });
    return async () => {
      if (lost.signal.aborted) return; // a lock that was lost is nobody's to release
      await rm(owner, { force: true });
      await release();
    };
  } finally {
    await guard();
  }
}

/** Whose end nobody can judge, of another machine or PID namespace, is waited for until it is stale. */
async function removeLockOfDead(file: string, ownerFile: string): Promise<void> {
  const owner = parseIdentity(await readFile(ownerFile, "utf8").catch(() => ""));
  if (owner === undefined || livenessOf(owner) !== "dead") return;
  await rm(ownerFile, { force: true });
  await rm(`${file}.lock`, { recursive: true, force: true });
}

/** Undefined while somebody else holds it. */
async function hold(
  file: string,
  stale: number,
  onCompromised: (error: Error) => void,
): Promise<(() => Promise<void>) | undefined> {
  try {
    return await lock(file, { realpath: false, stale, update: stale / 3, onCompromised });
  } catch (error) {
    if (systemCodeOf(error) === "ELOCKED") return undefined;
    throw new IpyboxError("install-failed", `The state directory can't be locked: ${messageOf(error)}`, {
      hint: "See that the user who runs ipybox may write its state directory, and that its disk has space",
      cause: error,
    });
  }
}

const RETRY_MS = 200;
const STALE_MS = 15_000;
/** It is held for milliseconds. */
const GUARD_STALE_MS = 5000;
