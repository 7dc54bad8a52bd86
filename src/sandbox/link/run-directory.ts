import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, chown, mkdir, rm } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { text } from "node:stream/consumers";
import { Deferred } from "../../common/lifecycle.ts";

export interface RunDirectoryOwner {
  readonly uid: number;
  readonly gid: number;
}

/** A command for the watchdog, with its environment. */
export interface AfterDeath {
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Room for `/<sandbox id>/gateway.sock` below the root, so that socket paths stay under 100 bytes. */
const MAX_ROOT_BYTES = 44;

/**
 * This process' private directory (0700) for the run directories of its sandboxes: below `base`, else below
 * `$XDG_RUNTIME_DIR/ipybox`, else a temporary one. A watchdog removes it when this process dies without disposing.
 */
export class RunRoot implements AsyncDisposable {
  readonly #base: string | undefined;
  readonly #afterDeath: AfterDeath | undefined;
  #made: Promise<MadeRoot> | undefined;

  /** `afterDeath` is run by the watchdog, and by it alone, when this process died without disposing. */
  constructor(base: string | undefined, afterDeath?: AfterDeath) {
    this.#base = base;
    this.#afterDeath = afterDeath;
  }

  /** A new directory in which `owner` can use sockets but list nothing. Remove it with {@link removeRunDirectory}. */
  async make(name: string, owner: RunDirectoryOwner): Promise<string> {
    const { path: root } = await this.#make();
    const path = join(root, name);
    await mkdir(root, { recursive: true, mode: 0o700 }); // a cleaner of temporary files may have been here
    await mkdir(path, { mode: 0o700 });
    if (process.geteuid?.() === 0 && owner.uid !== 0) {
      await chmod(path, 0o710); // ours; its group may pass through
      await chown(path, 0, owner.gid);
    }
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const made = this.#made;
    this.#made = undefined;
    if (!made) return;
    const { path, watchdog } = await made;
    await rm(path, { recursive: true, force: true });
    watchdog?.stdin?.end();
  }

  #make(): Promise<MadeRoot> {
    this.#made ??= makeRoot(this.#base, this.#afterDeath).catch((error: unknown) => {
      this.#made = undefined;
      throw error;
    });
    return this.#made;
  }
}

/** The directory is ours and a sandbox only ever saw it read-only, so removing it follows nothing. */
export async function removeRunDirectory(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

interface MadeRoot {
  readonly path: string;
  /** Absent on Windows, which has no such shell: sandboxes end by their lifelines there, temporary files are left. */
  readonly watchdog: ChildProcess | undefined;
}

async function makeRoot(base: string | undefined, afterDeath: AfterDeath | undefined): Promise<MadeRoot> {
  const path = join(await chooseBase(base), `ipybox-${randomBytes(4).toString("base64url")}`);
  if (process.platform !== "win32") return { path, watchdog: await startWatchdog(path, afterDeath) };
  await mkdir(path, { mode: 0o700 });
  return { path, watchdog: undefined };
}

async function chooseBase(base: string | undefined): Promise<string> {
  const runtime = process.env["XDG_RUNTIME_DIR"];
  const chosen = base ?? (runtime !== undefined && isAbsolute(runtime) ? join(runtime, "ipybox") : undefined);
  if (chosen !== undefined && Buffer.byteLength(chosen) <= MAX_ROOT_BYTES) {
    try {
      await mkdir(chosen, { recursive: true, mode: 0o700 });
      return chosen;
    } catch (error) {
      if (base !== undefined) throw error; // a stale XDG_RUNTIME_DIR is no reason to fail, a wrong option is
    }
  }
  return temporaryBase(tmpdir(), process.platform);
}

/** Where temporary directories have long paths (macOS), `/tmp`. On Windows there is none, and no socket either. */
export function temporaryBase(usual: string, platform: NodeJS.Platform): string {
  return platform === "win32" || Buffer.byteLength(usual) <= MAX_ROOT_BYTES ? usual : "/tmp";
}

/**
 * A shell that makes the directory `path`, so that there is no moment at which nobody would remove it, and waits for the
 * end of its input, which comes when we die whatever the cause. If `path` is still there then, we did not dispose: it
 * removes `path` and runs the command.
 */
async function startWatchdog(path: string, afterDeath: AfterDeath | undefined): Promise<ChildProcess> {
  const script = `trap "" HUP INT QUIT TERM PIPE; umask 077; mkdir -- "$0" 2>&1 || exit; exec >/dev/null
read -r _; [ -e "$0" ] || exit 0; rm -rf -- "$0"; [ $# -eq 0 ] || exec "$@"`;
  const watchdog = spawn("/bin/sh", ["-c", script, path, ...(afterDeath?.command ?? [])], {
    cwd: "/",
    detached: true, // in a session of its own: what kills our process group spares it
    env: { PATH: "/usr/bin:/bin", ...afterDeath?.env },
    stdio: ["pipe", "pipe", "ignore"],
  });
  const failed = new Deferred<never>();
  watchdog.once("error", failed.reject);
  const complaint = await Promise.race([text(watchdog.stdout), failed.promise]);
  if (complaint !== "") throw new Error(complaint.trim());
  watchdog.on("error", () => undefined);
  watchdog.stdin.on("error", () => undefined);
  watchdog.unref();
  // A pipe to a child is a socket; left referenced, it would keep this process alive.
  if (watchdog.stdin instanceof Socket) watchdog.stdin.unref();
  return watchdog;
}
