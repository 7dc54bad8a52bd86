import { constants, type Dirent } from "node:fs";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";

/** An entry of a directory, or what lstat says of one. */
export type EntryKind = Pick<Dirent, "isDirectory" | "isSymbolicLink">;

export interface Found {
  readonly path: string;
  /** 0 for what lies in the root itself. */
  readonly depth: number;
  readonly entry: Dirent;
}

export interface WalkOptions {
  /** Directories deeper than this are not looked into; 0: the root alone is. */
  readonly maxDepth: number;
  /** Called with each directory right before it is read: what changes in it afterwards can be watched for. */
  readonly onDirectory?: (path: string) => void;
}

/** A walk that goes broad before deep, follows no link and looks at a bounded number of entries. */
export class Walk {
  complete = true;
  readonly #root: string;
  readonly #options: WalkOptions;

  constructor(root: string, options: WalkOptions) {
    this.#root = root;
    this.#options = options;
  }

  async *entries(): AsyncGenerator<Found> {
    let seen = 0;
    const queue = [{ path: this.#root, depth: 0 }];
    for (const directory of queue) {
      this.#options.onDirectory?.(directory.path);
      for (const entry of await readDirectory(directory.path)) {
        if (++seen > MAX_ENTRIES) {
          this.complete = false;
          return;
        }
        const path = join(directory.path, entry.name);
        yield { path, depth: directory.depth, entry };
        const descends = entry.isDirectory() && directory.depth < this.#options.maxDepth && isWalkedInto(entry.name);
        if (descends) queue.push({ path, depth: directory.depth + 1 });
      }
    }
  }
}

/** False for directories of tools, which are large and hold nothing of a project's own. */
export function isWalkedInto(name: string): boolean {
  return !NOT_WALKED.has(name);
}

/** What is in a directory that is still no link; nothing when it can't be read. */
async function readDirectory(path: string): Promise<Dirent[]> {
  try {
    await using handle = await open(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
    const place = process.platform === "linux" ? `/proc/self/fd/${handle.fd}` : path;
    return await readdir(place, { withFileTypes: true });
  } catch {
    return [];
  }
}

const MAX_ENTRIES = 100_000;
const NOT_WALKED = new Set([".git", "node_modules", "__pycache__", ".venv", "venv", ".tox", ".mypy_cache", ".ipybox"]);
