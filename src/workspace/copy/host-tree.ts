import { randomBytes } from "node:crypto";
import { type BigIntStats, constants } from "node:fs";
import {
  lchown,
  lstat,
  open,
  readdir,
  readlink,
  rename,
  rmdir,
  symlink,
  unlink,
  type FileHandle,
} from "node:fs/promises";
import { systemCodeOf } from "../../common/errors.ts";
import { descend, openFile, openRoot, splitRelative, type Directory } from "../beneath.ts";

export interface HostTreeOptions {
  /** To whom what is made belongs, when the server is root; nobody else can give files away. */
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
}

/** What is at a path, looked at without following links. */
export interface HostEntry {
  readonly kind: "file" | "directory" | "link" | "other";
  /** Differs when the file was changed or replaced. Of directories only the kind counts. */
  readonly signature: string;
  readonly bytes: number;
}

export interface FileAttributes {
  readonly mode: number;
  readonly mtimeMs: number;
}

/**
 * The files of a workspace, for copying them: every path is relative to the workspace's own descriptor, no link is
 * followed at any component, nothing is deleted recursively. A place that is not what it must be rejects with an
 * error of the system, or with `invalid-workspace`.
 */
export class HostTree implements AsyncDisposable {
  readonly #root: Directory;
  readonly #options: HostTreeOptions;

  private constructor(root: Directory, options: HostTreeOptions) {
    this.#root = root;
    this.#options = options;
  }

  /** `path` is the workspace's real path. */
  static async open(path: string, options: HostTreeOptions): Promise<HostTree> {
    return new HostTree(await openRoot(path), options);
  }

  /** Names in a directory with what they are; `""` is the workspace itself. Rejects when it can't be read. */
  async list(path: string): Promise<(HostEntry & { readonly name: string })[]> {
    await using directory = await descend(this.#root, path === "" ? [] : splitRelative(path));
    const names = await readdir(directory.entry("."));
    const entries = await Promise.all(names.map(async (name) => ({ name, info: await look(directory, name) })));
    return entries.flatMap(({ name, info }) => (info === undefined ? [] : [{ name, ...info }]));
  }

  /** Undefined when nothing is there, or the way there is no directory. */
  async look(path: string): Promise<HostEntry | undefined> {
    return await this.#inParent(path, false, look).catch(() => undefined);
  }

  /** A file for reading, with its size; rejects when it is none any more. The caller closes it. */
  async openFile(path: string): Promise<{ readonly file: FileHandle; readonly bytes: number } & FileAttributes> {
    return await this.#inParent(path, false, async (directory, name) => {
      const { file, info } = await openFile(directory, name);
      return { file, bytes: info.size, mode: info.mode & PERMISSIONS, mtimeMs: Math.floor(info.mtimeMs) };
    });
  }

  readLink(path: string): Promise<string> {
    return this.#inParent(path, false, (directory, name) => readlink(directory.entry(name)));
  }

  /** Writes a file as a whole, in the place of a file or link; directories on the way are made. */
  async writeFile(path: string, content: AsyncIterable<Buffer>, { mode, mtimeMs }: FileAttributes): Promise<void> {
    await this.#replace(path, async (temporary) => {
      await using file = await open(temporary, CREATE_FLAGS, 0o600);
      for await (const piece of content) await file.writeFile(piece);
      await this.#give(file);
      await file.chmod(mode & PERMISSIONS);
      await file.utimes(mtimeMs / 1000, mtimeMs / 1000);
    });
  }

  async makeLink(path: string, target: string): Promise<void> {
    await this.#replace(path, async (temporary) => {
      await symlink(target, temporary);
      if (this.#newOwner !== undefined) await lchown(temporary, this.#newOwner.uid, this.#newOwner.gid);
    });
  }

  async makeDirectory(path: string): Promise<void> {
    await using directory = await this.#descend(splitRelative(path), true);
    await directory.handle.stat();
  }

  /** Removes a file, a link or an empty directory; a directory that is not empty stays. */
  async remove(path: string, kind: HostEntry["kind"]): Promise<void> {
    await this.#inParent(path, false, async (directory, name) => {
      if (kind !== "directory") await unlink(directory.entry(name));
      else await rmdir(directory.entry(name)).catch(toleratingContent);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#root[Symbol.asyncDispose]();
  }

  async #replace(path: string, make: (temporary: string) => Promise<void>): Promise<void> {
    await this.#inParent(path, true, async (directory, name) => {
      const temporary = directory.entry(`.ipybox-${randomBytes(8).toString("hex")}.tmp`);
      try {
        await make(temporary);
        await rename(temporary, directory.entry(name));
      } catch (error) {
        await unlink(temporary).catch(() => undefined);
        throw error;
      }
    });
  }

  async #inParent<T>(
    path: string,
    create: boolean,
    action: (directory: Directory, name: string) => Promise<T>,
  ): Promise<T> {
    const components = splitRelative(path);
    const name = components.pop() ?? "";
    await using directory = await this.#descend(components, create);
    return await action(directory, name);
  }

  #descend(components: readonly string[], create: boolean): Promise<Directory> {
    return descend(this.#root, components, { create, onCreated: (directory) => this.#give(directory) });
  }

  async #give(file: FileHandle): Promise<void> {
    if (this.#newOwner !== undefined) await file.chown(this.#newOwner.uid, this.#newOwner.gid);
  }

  get #newOwner(): HostTreeOptions["owner"] {
    return process.getuid?.() === 0 ? this.#options.owner : undefined;
  }
}

async function look(directory: Directory, name: string): Promise<HostEntry | undefined> {
  const info = await lstat(directory.entry(name), { bigint: true }).catch(() => undefined);
  if (info === undefined) return undefined;
  const kind = kindOf(info);
  const signature =
    kind === "directory" ? kind : [kind, info.ino, info.size, info.mtimeNs, info.ctimeNs].map(String).join(":");
  return { kind, signature, bytes: kind === "file" ? Number(info.size) : 0 };
}

function kindOf(info: BigIntStats): HostEntry["kind"] {
  if (info.isFile()) return "file";
  if (info.isDirectory()) return "directory";
  return info.isSymbolicLink() ? "link" : "other";
}

function toleratingContent(error: unknown): void {
  if (!["ENOTEMPTY", "EEXIST"].includes(systemCodeOf(error) ?? "")) throw error;
}

/** Whether a name is one of those under which files are written before they take their place. */
export function isTemporaryName(name: string): boolean {
  return /^\.ipybox-[0-9a-f]{16}\.tmp$/.test(name);
}

const PERMISSIONS = 0o777;
const CREATE_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
