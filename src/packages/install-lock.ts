import { mkdir } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { lock } from "proper-lockfile";
import { IpyboxError, messageOf, systemCodeOf } from "../common/errors.ts";

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

async function tryLock(directory: string, lost: AbortController): Promise<(() => Promise<void>) | undefined> {
  try {
    const release = await lock(directory, {
      lockfilePath: `${directory}/install.lock`,
      stale: STALE_MS,
      update: STALE_MS / 3,
      onCompromised: (error) =>
        lost.abort(
          new IpyboxError("install-failed", "The install lock was lost", { hint: "Call again", cause: error }),
        ),
    });
    // A lock that was lost is nobody's to release.
    return () => (lost.signal.aborted ? Promise.resolve() : release());
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
