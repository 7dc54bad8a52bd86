import { readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemCodeOf } from "../common/errors.ts";
import { withHostLock } from "../common/host-lock.ts";
import { currentProcess, formatIdentity, livenessOf, parseIdentity } from "../common/process-identity.ts";
import { makeStateDirectory } from "../common/state-directory.ts";
import type { WorkspaceFiles } from "./workspace-files.ts";

export interface EnvPlaceholderOptions {
  /** State directory of the workspace: `<state>/workspaces/<key>`. */
  readonly stateDir: string;
  /** Names this session's record. */
  readonly sessionId: string;
}

/**
 * Makes an empty `.env` (0600) in the root of the workspace where there is none, so that there is something to mask and a
 * cell can't plant one. Disposing removes it again if it is still empty and no other live session of this workspace
 * needs it; a file that was not made here is never removed. Rejects with `workspace-gone` where the directory is missing.
 */
export async function plantEmptyEnvFile(
  workspace: WorkspaceFiles,
  options: EnvPlaceholderOptions,
): Promise<AsyncDisposable> {
  const sessions = join(options.stateDir, "sessions");
  const record = join(sessions, options.sessionId);
  const made = join(options.stateDir, "env-placeholder");
  await makeStateDirectory(sessions);
  await locked(options.stateDir, async () => {
    await writeFile(record, formatIdentity(currentProcess()), { mode: 0o600 });
    if (await createEmpty(workspace)) await writeFile(made, "", { mode: 0o600 });
  });
  let removal: Promise<void> | undefined;
  const remove = () =>
    locked(options.stateDir, async () => {
      await removeFile(record);
      if (await hasLiveSession(sessions)) return;
      if ((await removeFile(made)) && (await isEmpty(workspace))) await workspace.remove(ENV_FILE);
    });
  return { [Symbol.asyncDispose]: () => (removal ??= remove()) };
}

/** False when something of that name is there already, whatever it is. */
async function createEmpty(workspace: WorkspaceFiles): Promise<boolean> {
  try {
    const file = await workspace.createFile(ENV_FILE, { mode: 0o600 });
    await file.close();
    return true;
  } catch (error) {
    if (systemCodeOf(error) === "EEXIST") return false;
    throw error;
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

/** False for a link, or what is gone: it is not ours any more. */
async function isEmpty(workspace: WorkspaceFiles): Promise<boolean> {
  return (await workspace.readFile(ENV_FILE, 0).catch(() => undefined)) !== undefined;
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
  await withHostLock(join(directory, "sessions"), {}, action);
}

const ENV_FILE = ".env";
