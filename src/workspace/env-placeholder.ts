import { constants } from "node:fs";
import { mkdir, open, readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { lock } from "proper-lockfile";
import { systemCodeOf } from "../common/errors.ts";
import { currentProcess, formatIdentity, livenessOf, parseIdentity } from "../common/process-identity.ts";
import { workspaceGone } from "./workspace-files.ts";

export interface EnvPlaceholderOptions {
  /** State directory of the workspace: `<state>/workspaces/<key>`. */
  readonly stateDir: string;
  /** Names this session's record. */
  readonly sessionId: string;
  /** To whom the file is given when the server is root. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/**
 * Makes an empty `.env` (0600) in the root of `workspace` where there is none, so that there is something to mask and a
 * cell can't plant one. Disposing removes it again if it is still empty and no other live session of this workspace
 * needs it; a file that was not made here is never removed. Rejects with `workspace-gone` where the directory is missing.
 */
export async function plantEmptyEnvFile(workspace: string, options: EnvPlaceholderOptions): Promise<AsyncDisposable> {
  const sessions = join(options.stateDir, "sessions");
  const record = join(sessions, options.sessionId);
  const made = join(options.stateDir, "env-placeholder");
  const path = join(workspace, ".env");
  await mkdir(sessions, { recursive: true, mode: 0o700 });
  await locked(options.stateDir, async () => {
    await writeFile(record, formatIdentity(currentProcess()), { mode: 0o600 });
    if (await createEmpty(workspace, options.owner)) await writeFile(made, "", { mode: 0o600 });
  });
  let removal: Promise<void> | undefined;
  const remove = () =>
    locked(options.stateDir, async () => {
      await removeFile(record);
      if (await hasLiveSession(sessions)) return;
      if ((await removeFile(made)) && (await isEmptyFile(path))) await removeFile(path);
    });
  return { [Symbol.asyncDispose]: () => (removal ??= remove()) };
}

/** False when something of that name is there already, whatever it is. */
async function createEmpty(workspace: string, owner: EnvPlaceholderOptions["owner"]): Promise<boolean> {
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    await using file = await open(join(workspace, ".env"), flags, 0o600);
    if (owner !== undefined && process.getuid?.() === 0) await file.chown(owner.uid, owner.gid);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === "EEXIST") return false;
    throw systemCodeOf(error) === "ENOENT" ? workspaceGone(workspace, error) : error;
  }
}

/** Records of dead processes are removed on the way; one that can't be judged counts as alive. */
async function hasLiveSession(sessions: string): Promise<boolean> {
  let alive = false;
  for (const name of await readdir(sessions)) {
    const identity = parseIdentity(await readFile(join(sessions, name), "utf8").catch(() => ""));
    if (identity !== undefined && livenessOf(identity) !== "dead") alive = true;
    else await removeFile(join(sessions, name));
  }
  return alive;
}

async function isEmptyFile(path: string): Promise<boolean> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const info = await file.stat();
    return info.isFile() && info.size === 0;
  } catch {
    return false; // a link, or gone: not ours any more
  }
}

async function removeFile(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (systemCodeOf(error) === "ENOENT") return false;
    throw error;
  }
}

async function locked(directory: string, action: () => Promise<void>): Promise<void> {
  const release = await lock(directory, {
    lockfilePath: join(directory, "sessions.lock"),
    retries: { retries: 50, minTimeout: 20, maxTimeout: 200 },
    stale: 10_000,
  });
  try {
    await action();
  } finally {
    await release();
  }
}
