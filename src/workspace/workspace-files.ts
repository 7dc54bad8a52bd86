import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { lstat, open, readdir, realpath, rename, stat, unlink, type FileHandle } from "node:fs/promises";
import { IpyboxError, systemCodeOf } from "../common/errors.ts";
import { descend, openFile, openRoot, refusedPlace, splitRelative, type Directory } from "./beneath.ts";

export interface WorkspaceFilesOptions {
  /** To whom new files and directories are given, when the server is root; nobody else can give files away. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/** An entry of a directory, looked at without following links. */
export interface WorkspaceEntry {
  readonly name: string;
  readonly kind: "file" | "directory" | "other";
  readonly bytes: number;
  readonly modifiedAtMs: number;
}

/**
 * The only way in which the host writes and reads files of ours in the workspace, while cells may move, replace and
 * link anything there. Paths are relative to the workspace; no link is followed at any component, and what was opened
 * stays beneath the workspace's own descriptor. Nothing is deleted recursively.
 *
 * Every method rejects with `workspace-gone` when the workspace was removed, with `invalid-workspace` when a component
 * is a link or of the wrong kind, with `disk-full` when there is no space.
 */
export class WorkspaceFiles implements AsyncDisposable {
  readonly path: string;
  #root: Directory;
  /** Of directories that were removed: a call may still be under way in them, so their descriptors stay ours. */
  readonly #former: Directory[] = [];
  readonly #options: WorkspaceFilesOptions;

  private constructor(path: string, root: Directory, options: WorkspaceFilesOptions) {
    this.path = path;
    this.#root = root;
    this.#options = options;
  }

  /** `path` is the workspace's real path. */
  static async open(path: string, options: WorkspaceFilesOptions): Promise<WorkspaceFiles> {
    return new WorkspaceFiles(path, await openRoot(path), options);
  }

  /** Where the workspace was removed and made again, goes on in the directory that is there now. */
  async renew(): Promise<void> {
    if (!(await this.#isGone())) return;
    const isReal = (await realpath(this.path).catch(() => undefined)) === this.path;
    if (!isReal) throw workspaceGone(this.path, undefined);
    this.#former.push(this.#root);
    this.#root = await openRoot(this.path);
  }

  /** Writes a file as a whole: readers see the old or the new content. Directories on the way are made. */
  async writeFile(
    relativePath: string,
    data: string | Uint8Array,
    options: { readonly mode?: number } = {},
  ): Promise<void> {
    await this.#inParent(relativePath, true, async (directory, name) => {
      const temporary = directory.entry(`.${name}.${randomBytes(6).toString("hex")}.tmp`);
      try {
        await using file = await open(temporary, CREATE_FLAGS, 0o600);
        await file.writeFile(data);
        await this.#give(file);
        await file.chmod(options.mode ?? 0o644);
        // A link or another file at that name is replaced, not followed.
        await rename(temporary, directory.entry(name));
      } catch (error) {
        await unlink(temporary).catch(() => undefined);
        throw error;
      }
    });
  }

  /** Makes a new file for writing piece by piece; an existing one is an error. The caller closes it. */
  async createFile(relativePath: string, options: { readonly mode?: number } = {}): Promise<FileHandle> {
    return await this.#inParent(relativePath, true, async (directory, name) => {
      const file = await open(directory.entry(name), CREATE_FLAGS, 0o600);
      try {
        await this.#give(file);
        await file.chmod(options.mode ?? 0o644);
        return file;
      } catch (error) {
        await file.close();
        throw error;
      }
    });
  }

  /** Makes a directory and those on the way to it. */
  async mkdir(relativePath: string): Promise<void> {
    await this.#guard(relativePath, async () => {
      await using directory = await this.#descend(splitRelative(relativePath), true);
      await directory.handle.stat();
    });
  }

  /** What is in a directory; nothing when there is no such directory. `.` is the workspace itself. */
  async list(relativePath: string): Promise<WorkspaceEntry[]> {
    return await this.#guard(relativePath, async () => {
      try {
        await using directory = await this.#descend(relativePath === "." ? [] : splitRelative(relativePath), false);
        return await listEntries(directory);
      } catch (error) {
        if (systemCodeOf(error) === "ENOENT") return [];
        throw error;
      }
    });
  }

  /** The content of a regular file of at most `maxBytes`; undefined when there is none. Never blocks. */
  async readFile(relativePath: string, maxBytes: number): Promise<Buffer | undefined> {
    try {
      return await this.#inParent(relativePath, false, async (directory, name) => {
        const { file: opened, info } = await openFile(directory, name);
        await using file = opened;
        if (info.size > maxBytes) {
          throw new IpyboxError("invalid-workspace", `${relativePath} is larger than ${maxBytes} bytes`);
        }
        const { bytesRead, buffer } = await file.read(Buffer.alloc(info.size), 0, info.size, 0);
        return buffer.subarray(0, bytesRead);
      });
    } catch (error) {
      if (systemCodeOf(error) === "ENOENT") return undefined;
      throw error;
    }
  }

  /** Removes a file or a link, never what it leads to; it need not be there. */
  async remove(relativePath: string): Promise<void> {
    try {
      await this.#inParent(relativePath, false, (directory, name) => unlink(directory.entry(name)));
    } catch (error) {
      if (systemCodeOf(error) !== "ENOENT") throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const root of [...this.#former, this.#root]) await root[Symbol.asyncDispose]();
  }

  async #inParent<T>(
    relativePath: string,
    create: boolean,
    action: (directory: Directory, name: string) => Promise<T>,
  ): Promise<T> {
    const components = splitRelative(relativePath);
    const name = components.pop() ?? "";
    return await this.#guard(relativePath, async () => {
      await using directory = await this.#descend(components, create);
      return await action(directory, name);
    });
  }

  async #descend(components: readonly string[], create: boolean): Promise<Directory> {
    return await descend(this.#root, components, { create, onCreated: (directory) => this.#give(directory) });
  }

  async #give(file: FileHandle): Promise<void> {
    const { owner } = this.#options;
    if (owner !== undefined && process.getuid?.() === 0) await file.chown(owner.uid, owner.gid);
  }

  async #guard<T>(relativePath: string, action: () => Promise<T>): Promise<T> {
    try {
      return await action();
    } catch (error) {
      const code = systemCodeOf(error) ?? "";
      if (["ELOOP", "ENOTDIR", "EISDIR"].includes(code)) throw refusedPlace(relativePath, error);
      if (["ENOSPC", "EDQUOT"].includes(code)) throw diskFull(relativePath, error);
      if (code === "ENOENT" && (await this.#isGone())) throw workspaceGone(this.path, error);
      throw error;
    }
  }

  async #isGone(): Promise<boolean> {
    const [ours, there] = await Promise.all([this.#root.handle.stat(), stat(this.path).catch(() => undefined)]);
    return there?.ino !== ours.ino || there.dev !== ours.dev;
  }
}

async function listEntries(directory: Directory): Promise<WorkspaceEntry[]> {
  const names = await readdir(directory.entry("."));
  const entries = await Promise.all(
    names.slice(0, MAX_ENTRIES).map(async (name): Promise<WorkspaceEntry | undefined> => {
      const info = await lstat(directory.entry(name)).catch(() => undefined);
      if (info === undefined) return undefined; // gone in the meantime
      const kind = info.isFile() ? "file" : info.isDirectory() ? "directory" : "other";
      return { name, kind, bytes: info.size, modifiedAtMs: info.mtimeMs };
    }),
  );
  return entries.filter((entry) => entry !== undefined);
}

function diskFull(relativePath: string, cause: unknown): IpyboxError {
  return new IpyboxError("disk-full", `${relativePath} can't be written: no space is left`, {
    hint: "Free some space on the host's disk",
    cause,
  });
}

/** What any use of the workspace comes to when its directory is not there any more. */
function workspaceGone(path: string, cause: unknown): IpyboxError {
  return new IpyboxError("workspace-gone", `The workspace ${path} was removed or replaced`, {
    hint: "Restart ipybox in a workspace that exists",
    cause,
  });
}

const CREATE_FLAGS =
  constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW | constants.O_APPEND;
const MAX_ENTRIES = 10_000;
