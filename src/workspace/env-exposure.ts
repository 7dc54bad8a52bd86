import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { basename, dirname, relative } from "node:path";
import { promisify } from "node:util";
import { oneLine } from "../common/one-line.ts";
import { ShieldRules } from "./shield-rules.ts";
import { findShieldedPaths } from "./shielded-paths.ts";

export interface EnvExposure {
  /** Env files with content, relative to the workspace, fit for a line of text. */
  readonly files: readonly string[];
  /** Those of them that git tracks: their content is in `.git`, which cells can read. */
  readonly tracked: readonly string[];
}

/** Where the secrets of a workspace lie. `path` is the PATH on which git is looked up, if there is one. */
export async function findEnvExposure(workspace: string, path: string | undefined): Promise<EnvExposure> {
  const { masked } = await findShieldedPaths(new ShieldRules(workspace, { mask: [], protect: [], unprotect: [] }));
  const files: string[] = [];
  const tracked: string[] = [];
  for (const file of masked) {
    const info = await stat(file).catch(() => undefined);
    if (info === undefined || info.size === 0) continue;
    const name = oneLine(relative(workspace, file));
    files.push(name);
    if (await isTracked(file, path)) tracked.push(name);
  }
  return { files, tracked };
}

async function isTracked(file: string, path: string | undefined): Promise<boolean> {
  const git = promisify(execFile)(
    "git",
    [...NO_PROGRAMS, "-C", dirname(file), "ls-files", "--error-unmatch", "--", basename(file)],
    { env: { ...(path !== undefined && { PATH: path }), ...NO_CONFIGURATION }, timeout: GIT_TIMEOUT_MS },
  );
  return await git.then(
    () => true,
    () => false, // not tracked, no repository, or no git
  );
}

/** The repository may be a cell's work: it must not name what git runs. */
const NO_PROGRAMS = ["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*"];
const NO_CONFIGURATION = { GIT_CONFIG_NOSYSTEM: "1", GIT_CONFIG_GLOBAL: "/dev/null", GIT_OPTIONAL_LOCKS: "0" };
const GIT_TIMEOUT_MS = 5000;
