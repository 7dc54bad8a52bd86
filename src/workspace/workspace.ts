import { createHash } from "node:crypto";
import { lstat, mkdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { IpyboxError, pathReasonOf } from "../common/errors.ts";
import { refuseDangerousDirectory, type ForbiddenPlaces } from "./dangerous-directories.ts";

export interface OpenWorkspaceOptions extends ForbiddenPlaces {
  /** The caller's working directory: relative paths start there. */
  readonly cwd: string;
}

/** The workspace of a server: one directory of the host, made sure of. */
export interface Workspace {
  /** Without links. */
  readonly path: string;
  /** First 16 hexadecimal digits of the path's SHA-256: names its state, its volume, its labels. */
  readonly key: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Resolves and checks the directory to share, and makes it when only its last component is missing. Rejects with
 * `invalid-workspace`.
 */
export async function openWorkspace(path: string, options: OpenWorkspaceOptions): Promise<Workspace> {
  const real = await locateWorkspace(path, options);
  const info = await orRefuse(real, async () => {
    await mkdir(real, { recursive: true });
    return await stat(real);
  });
  return { path: real, key: workspaceKey(real), uid: info.uid, gid: info.gid };
}

/** The real path of the directory to share, which may have to be made yet. Rejects as {@link openWorkspace} does. */
export async function locateWorkspace(path: string, options: OpenWorkspaceOptions): Promise<string> {
  refuseForeignPath(path);
  const requested = resolve(options.cwd, path);
  const info = await lstat(requested).catch(() => undefined);
  const real = await orRefuse(requested, () => (info ? realpath(requested) : realPathToBe(requested)));
  await refuseDangerousDirectory(real, "workspace", options);
  if (info && !(await orRefuse(requested, () => stat(real))).isDirectory()) {
    throw new IpyboxError("invalid-workspace", `The workspace ${requested} is no directory`, {
      hint: "Give a directory as --workspace",
    });
  }
  return real;
}

/** The key of a workspace by its real path. */
export function workspaceKey(realPath: string): string {
  return createHash("sha256").update(realPath).digest("hex").slice(0, 16);
}

/** Elsewhere it would be the name of a directory to be made here. Shells may have taken its backslashes away. */
function refuseForeignPath(path: string): void {
  if (sep !== "/" || !/^(?:[A-Za-z]:|\\\\)/.test(path)) return;
  throw new IpyboxError("invalid-workspace", `The workspace ${path} is a path of Windows`, {
    hint: "In WSL, give it as WSL knows it: `wslpath 'C:\\Users\\me\\project'`",
  });
}

async function realPathToBe(path: string): Promise<string> {
  return join(await realpath(dirname(path)), basename(path));
}

async function orRefuse<T>(path: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    throw new IpyboxError("invalid-workspace", `The workspace ${path} can't be opened: ${pathReasonOf(error)}`, {
      hint: "Make the directory or its parent, or give another --workspace",
      cause: error,
    });
  }
}
