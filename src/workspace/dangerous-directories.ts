import { realpath } from "node:fs/promises";
import { relative, isAbsolute, sep } from "node:path";
import { IpyboxError } from "../common/errors.ts";

/** What must never become visible or writable in a sandbox. They need not exist yet. */
export interface ForbiddenPlaces {
  readonly home: string;
  readonly stateDir: string;
  /** Where the directories of our sockets are, or are going to be made. */
  readonly runDirs: readonly string[];
  /** Undefined where the engine is reached over the network, or is none. */
  readonly engineSocket: string | undefined;
}

/**
 * Rejects with `invalid-workspace` when sharing `path` (real, a directory) would share too much: `/`, the home
 * directory, a system directory, or something that contains our state, our sockets or the engine's socket.
 */
export async function refuseDangerousDirectory(
  path: string,
  role: "workspace" | "mount",
  places: ForbiddenPlaces,
): Promise<void> {
  const reason = await dangerOf(path, places);
  if (reason === undefined) return;
  throw new IpyboxError("invalid-workspace", `${path} can't be shared as ${role}: ${reason}`, {
    hint: role === "workspace" ? "Give a project directory as --workspace" : "Give a narrower directory to --mount",
  });
}

async function dangerOf(path: string, places: ForbiddenPlaces): Promise<string | undefined> {
  if (WHOLE_FILE_SYSTEM.test(path)) return "it is the whole file system";
  if (path === (await resolveExisting(places.home))) return "it is the home directory";
  if (isSystemDirectory(path)) return "it is a system directory";
  const secrets: [string, string][] = [
    ["ipybox's state", places.stateDir],
    ...places.runDirs.map((place): [string, string] => ["ipybox's sockets", place]),
  ];
  if (places.engineSocket !== undefined) secrets.push(["the container engine's socket", places.engineSocket]);
  for (const [what, place] of secrets) {
    const real = await resolveExisting(place);
    if (isWithin(real, path)) return `it contains ${what}`;
    // A directory inside the state directory would be as bad.
    if (place !== places.engineSocket && isWithin(path, real)) return `it lies in the directory of ${what}`;
  }
  return undefined;
}

/** Whether a directory is one of the system's, whichever system that is. */
export function isSystemDirectory(path: string): boolean {
  return SYSTEM_DIRECTORIES.has(path) || SYSTEM_PATTERN.test(path) || WINDOWS_SYSTEM_PATTERN.test(path);
}

/** Whether `path` is `directory` or lies in it; both absolute and without links. */
export function isWithin(path: string, directory: string): boolean {
  const inside = relative(directory, path);
  return inside === "" || (inside !== ".." && !inside.startsWith(`..${sep}`) && !isAbsolute(inside));
}

/** The real path of the part that exists, with the rest appended. */
async function resolveExisting(path: string): Promise<string> {
  const components = path.split(sep);
  for (let count = components.length; count > 1; count--) {
    const existing = await realpath(components.slice(0, count).join(sep)).catch(() => undefined);
    if (existing !== undefined) return [existing === sep ? "" : existing, ...components.slice(count)].join(sep) || sep;
  }
  return path;
}

/** Of Windows a drive. */
const WHOLE_FILE_SYSTEM = /^(?:\/|[a-z]:\\)$/i;

/** On whichever drive; nothing below the first three is a project. */
const WINDOWS_SYSTEM_PATTERN = /^[a-z]:\\(?:(?:windows|program files(?: \(x86\))?|programdata)(?:\\|$)|users$)/i;

// /lib is /usr/lib on most systems; nothing below /proc and /sys is a project.
const SYSTEM_PATTERN = /^(\/usr)?\/(bin|sbin|lib[^/]*)$|^\/(proc|sys)\//;

const SYSTEM_DIRECTORIES = new Set([
  ...["/etc", "/usr", "/var", "/run", "/proc", "/sys", "/dev", "/boot", "/opt", "/root", "/tmp"],
  // What /var/run and others resolve to on macOS, and the usual parents of home directories.
  ...["/private", "/private/etc", "/private/var", "/private/tmp", "/System", "/Library", "/Users", "/home"],
]);
