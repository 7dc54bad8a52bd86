import { closeSync, constants, openSync, readlinkSync, realpathSync, type Stats } from "node:fs";
import { lstat, mkdir, open, type FileHandle } from "node:fs/promises";
import { join, sep } from "node:path";
import { IpyboxError, systemCodeOf } from "../common/errors.ts";

/**
 * Paths beneath a directory that hostile code can write into at the same time. On Linux every step goes through the
 * descriptor of the directory before (`/proc/self/fd/N/name`), which no rename and no link can redirect.
 *
 * Elsewhere (macOS has no such paths) each component is looked at with lstat before it is used. A race remains there;
 * it takes code that runs on the host itself, since Docker Desktop's file sharing is the only way in.
 */
export interface Directory extends AsyncDisposable {
  readonly handle: FileHandle;
  /** A path of an entry that leads through this very directory. */
  entry(name: string): string;
}

export interface Descent {
  /** Make directories that are missing. */
  readonly create?: boolean;
  /** Called for each directory that was made. */
  readonly onCreated?: (directory: FileHandle) => Promise<void>;
}

/** Opens the root itself, by its real path. */
export async function openRoot(path: string): Promise<Directory> {
  return toDirectory(await open(path, DIRECTORY_FLAGS), path);
}

/** Opens the directory that `components` name beneath `root`; a link or a file among them is an error. */
export async function descend(
  root: Directory,
  components: readonly string[],
  options: Descent = {},
): Promise<Directory> {
  let directory: Directory | undefined;
  try {
    for (const name of components) {
      const next = await step(directory ?? root, name, options);
      await directory?.[Symbol.asyncDispose]();
      directory = next;
    }
  } catch (error) {
    await directory?.[Symbol.asyncDispose]();
    throw error;
  }
  // The root stays its owner's: the caller disposes what it gets.
  return directory ?? { ...root, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/**
 * Calls `use` with a place that leads to the directory at `path`, which has to be a real one: a link at any component,
 * even one that is put there just now, is an error. The place holds for the call.
 */
export function withDirectory<T>(path: string, use: (place: string) => T): T {
  const descriptor = openSync(path, PLACE_FLAGS);
  try {
    const place = HAS_DESCRIPTOR_PATHS ? `/proc/self/fd/${descriptor}` : path;
    if ((HAS_DESCRIPTOR_PATHS ? readlinkSync(place) : realpathSync(path)) !== path)
      throw new Error(`a link leads to ${path}`);
    return use(place);
  } finally {
    closeSync(descriptor);
  }
}

/** Opens a regular file for reading: no link is followed, and nothing that has no end blocks. The caller closes it. */
export async function openFile(directory: Directory, name: string): Promise<{ file: FileHandle; info: Stats }> {
  const file = await open(directory.entry(name), FILE_FLAGS);
  try {
    const info = await file.stat();
    if (!info.isFile()) throw refusedPlace(name, undefined);
    return { file, info };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Splits a relative path of ours; `..`, empty and absolute ones are bugs of the caller. */
export function splitRelative(path: string): string[] {
  const components = path.split(SEPARATOR);
  if (components.some((name) => name === "" || name === "." || name === ".." || name.includes("\0"))) {
    throw new Error(`not a path beneath the workspace: ${path}`);
  }
  return components;
}

/** The error for something that is not what it must be, with the place as the user knows it. */
export function refusedPlace(relativePath: string, cause: unknown): IpyboxError {
  return new IpyboxError("invalid-workspace", `${relativePath} in the workspace is a link or of the wrong kind`, {
    hint: `Remove or rename ${relativePath} in the workspace`,
    cause,
  });
}

async function step(parent: Directory, name: string, options: Descent): Promise<Directory> {
  try {
    return await openEntry(parent, name);
  } catch (error) {
    if (systemCodeOf(error) === "ELOOP" || systemCodeOf(error) === "ENOTDIR") throw refusedPlace(name, error);
    if (systemCodeOf(error) !== "ENOENT" || options.create !== true) throw error;
  }
  const created = await mkdir(parent.entry(name), { mode: 0o755 }).then(
    () => true,
    (error: unknown) => {
      if (systemCodeOf(error) === "EEXIST") return false; // another server, or a cell
      throw error;
    },
  );
  const directory = await openEntry(parent, name);
  if (created) await options.onCreated?.(directory.handle);
  return directory;
}

async function openEntry(parent: Directory, name: string): Promise<Directory> {
  const path = parent.entry(name);
  if (!HAS_DESCRIPTOR_PATHS) refuseLink(await lstat(path), name);
  return toDirectory(await open(path, DIRECTORY_FLAGS), path);
}

function refuseLink(info: Stats, name: string): void {
  if (info.isSymbolicLink()) throw refusedPlace(name, undefined);
}

function toDirectory(handle: FileHandle, path: string): Directory {
  return {
    handle,
    entry: (name) => (HAS_DESCRIPTOR_PATHS ? `/proc/self/fd/${handle.fd}/${name}` : join(path, name)),
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

const SEPARATOR = sep === "/" ? "/" : /[\\/]/;
const HAS_DESCRIPTOR_PATHS = process.platform === "linux";
const DIRECTORY_FLAGS = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** With O_PATH, which Node has no name for, no right to read the directory is needed. */
const PLACE_FLAGS = HAS_DESCRIPTOR_PATHS ? 0o10000000 | constants.O_DIRECTORY | constants.O_NOFOLLOW : DIRECTORY_FLAGS;
const FILE_FLAGS = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
